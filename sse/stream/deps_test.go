package stream_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Goal: the arrows between packages stay as they are. loop and fdrecv are here for what the contract names: the loop
// that a backend lives on, and the payload.
func TestDeps(t *testing.T) {
	checkImports(t, ".", "streaming-daemon-go/conn", "streaming-daemon-go/fdrecv", "streaming-daemon-go/loop", "streaming-daemon-go/sse")
}

// checkImports fails when the package imports other ones of ours than want, or any of somebody else's.
func checkImports(t *testing.T, pkg string, want ...string) {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, pkg).CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	var got []string
	for _, path := range strings.Fields(string(out)) {
		first, _, _ := strings.Cut(path, "/")
		if first == "streaming-daemon-go" || strings.Contains(first, ".") {
			got = append(got, path)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("imports %v, want %v", got, want)
	}
}
