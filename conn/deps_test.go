package conn_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Of this module the package imports loop and nothing else, directly or through it: it knows no payload, no SSE and no
// metrics. Of netpoll it knows nothing.
func TestDeps(t *testing.T) {
	list := func(args ...string) []string {
		out, err := exec.Command("go", append([]string{"list"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		return strings.Fields(string(out))
	}
	ours := 0
	for _, path := range list("-deps", ".") {
		if !strings.HasPrefix(path, "streaming-daemon-go/") {
			continue
		}
		if ours++; path != "streaming-daemon-go/conn" && path != "streaming-daemon-go/loop" {
			t.Errorf("conn depends on %s", path)
		}
	}
	if ours != 2 {
		t.Errorf("%d packages of this module, want conn and loop", ours)
	}
	for _, path := range list("-f", `{{join .Imports "\n"}}`, ".") {
		if strings.Contains(path, "netpoll") {
			t.Errorf("conn imports %s", path)
		}
	}
}
