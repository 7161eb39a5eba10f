package sse_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Goal: the package stays pure functions on bytes. Method: everything it pulls
// in, however far down, is of the standard library and none of it is package
// net.
func TestDeps(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{.ImportPath}} {{.Standard}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	seen := 0
	for line := range strings.Lines(string(out)) {
		path, standard, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case path == "streaming-daemon-go/sse":
			seen++
		case standard != "true":
			t.Errorf("sse pulls in %s, which is not of the standard library", path)
		case path == "net" || strings.HasPrefix(path, "net/"):
			t.Errorf("sse pulls in %s", path)
		}
	}
	if seen != 1 {
		t.Fatalf("go list names streaming-daemon-go/sse %d times in:\n%s", seen, out)
	}
}
