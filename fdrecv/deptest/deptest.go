// Package deptest turns the rules on who may import whom into tests, one line each.
//
//	go list ──> what a package imports ──less the standard library and itself──> exactly what the test says
//
// Packages of this module go by their path below its root ("sse/stream"), others by their import path. A list is exact:
// one that is no longer imported goes from the test too. Files of tests do not count. It imports testing, so only tests
// may import it.
package deptest

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "streaming-daemon-go"

// Imports fails the test unless the packages that match pattern ("." is the one under test) import want directly, beside
// the standard library and each other.
func Imports(t testing.TB, pattern string, want ...string) {
	t.Helper()
	check(t, pattern, "imports", `{{join .Imports "\n"}}`, want)
}

// Deps is Imports for all that they pull in, however far down.
func Deps(t testing.TB, pattern string, want ...string) {
	t.Helper()
	check(t, pattern, "depends on", `{{join .Deps "\n"}}`, want)
}

func check(t testing.TB, pattern, verb, format string, want []string) {
	t.Helper()
	own := list(t, pattern, "{{.ImportPath}}")
	var got []string
	for _, path := range list(t, pattern, format) {
		first, below, _ := strings.Cut(path, "/")
		if slices.Contains(own, path) || first != module && !strings.Contains(first, ".") {
			continue
		}
		if first == module {
			path = below
		}
		got = append(got, path)
	}
	slices.Sort(got)
	got = slices.Compact(got)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		who := pattern
		if len(own) == 1 {
			who = strings.TrimPrefix(own[0], module+"/")
		}
		t.Errorf("%s %s %q, want %q", who, verb, got, want)
	}
}

// list is what go list says about the packages that match pattern. None is an error: the test looks at the wrong place.
func list(t testing.TB, pattern, format string) []string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), "go", "list", "-f", format, pattern)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || format == "{{.ImportPath}}" && len(out) == 0 {
		t.Fatalf("go list %s: %v\n%s", pattern, err, stderr.String())
	}
	return strings.Fields(string(out))
}
