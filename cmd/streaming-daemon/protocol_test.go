package main_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// protocolFacts is how many numbered facts there are about the wire between web server, daemon and client: P-01 to
// P-23. A test of ours that holds one names it.
const protocolFacts = 23

// untested are the facts that no test can hold, with the reason.
var untested = map[int]string{
	8:  "the order of Apache's modules: with the wrong one no handoff reaches us, so it is for the set-up notes",
	10: "what Apache writes into its own access log: nothing of ours makes it",
}

// Every fact is named by a test somewhere in the repository, or by the table above, and never by both: a reason that
// is no longer true goes.
func TestEveryProtocolFactIsHeld(t *testing.T) {
	t.Parallel()
	named := map[int][]string{}
	fact := regexp.MustCompile(`\bP-(\d\d)\b`)
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case !strings.HasSuffix(path, "_test.go") || filepath.Base(path) == "protocol_test.go":
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, match := range fact.FindAllSubmatch(source, -1) {
			n, err := strconv.Atoi(string(match[1]))
			if err != nil {
				return err
			}
			named[n] = append(named[n], path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= protocolFacts; n++ {
		name, reason := fmt.Sprintf("P-%02d", n), untested[n]
		switch where := named[n]; {
		case len(where) == 0 && reason == "":
			t.Errorf("%s: no test names it, and no reason says why", name)
		case len(where) > 0 && reason != "":
			t.Errorf("%s: %s names it, so there is no reason to say %q", name, where[0], reason)
		}
		delete(named, n)
	}
	for n, where := range named {
		t.Errorf("P-%02d: there is no such fact, but %s names it", n, where[0])
	}
}
