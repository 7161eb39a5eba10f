package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

// The harness measures the daemon from outside: of our packages it may use the loop, the wire format, and the sending
// side of the handoff, in no file that is not a test.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{range .Imports}}{{.}}{{"\n"}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for line := range strings.Lines(string(out)) {
		name, ours := strings.CutPrefix(strings.TrimSpace(line), "streaming-daemon-go/")
		if !ours || strings.HasPrefix(name, "bench/") {
			continue
		}
		seen = true
		switch name {
		case "loop", "sse", "fdrecv":
		default:
			t.Errorf("bench imports %s", name)
		}
	}
	if !seen {
		t.Error("no import of ours found: the test looks at the wrong place")
	}
}
