package upgrade_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// It passes sockets on and knows none of those who listen on them.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var ours []string
	for path := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(path, "streaming-daemon-go/") {
			ours = append(ours, path)
		}
	}
	if want := []string{"streaming-daemon-go/loop"}; !slices.Equal(ours, want) {
		t.Errorf("imports %v, want %v and no other of ours", ours, want)
	}
}
