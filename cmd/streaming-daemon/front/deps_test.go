package front_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The front plays the web server: of ours it may know the wire format and how HTTP is served beside it, neither the daemon's loops nor its
// receiving side. The sending side is a func.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Deps "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var outside []string
	for path := range strings.FieldsSeq(string(out)) {
		if first, _, _ := strings.Cut(path, "/"); first == "streaming-daemon-go" || strings.Contains(first, ".") {
			outside = append(outside, path)
		}
	}
	if want := []string{"streaming-daemon-go/metrics/endpoint", "streaming-daemon-go/sse"}; !slices.Equal(outside, want) {
		t.Errorf("depends on %v, want %v and the standard library", outside, want)
	}
}
