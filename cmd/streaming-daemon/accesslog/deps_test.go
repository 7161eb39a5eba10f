package accesslog_test

import (
	"os/exec"
	"strings"
	"testing"
)

// A log knows how to escape, and nothing else of ours: neither streams nor loops.
func TestImports(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Deps "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if first, _, _ := strings.Cut(path, "/"); (first == "streaming-daemon-go" || strings.Contains(first, ".")) &&
			path != "streaming-daemon-go/cmd/streaming-daemon/escape" {
			t.Errorf("depends on %s", path)
		}
	}
}
