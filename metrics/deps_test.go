package metrics_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The package knows no other package of the module but its own endpoint, and what it
// needs from outside is the one library, with that library's own needs.
func TestImports(t *testing.T) {
	list := func(args ...string) []string {
		cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("go list %v: %v", args, err)
		}
		return strings.Fields(string(out))
	}
	const self, endpoint, library = "streaming-daemon-go/metrics", "streaming-daemon-go/metrics/endpoint", "github.com/VictoriaMetrics/metrics"
	var outside []string
	for _, path := range list("-f", `{{join .Imports "\n"}}`, ".") {
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") || first == "streaming-daemon-go" {
			outside = append(outside, path)
		}
	}
	if !slices.Equal(outside, []string{library, endpoint}) {
		t.Errorf("imports %v, want the standard library, %s and %s", outside, library, endpoint)
	}
	for _, path := range list("-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".") {
		if path != self && path != endpoint && path != library && !strings.HasPrefix(path, "github.com/valyala/") && !strings.HasPrefix(path, "golang.org/x/sys/") {
			t.Errorf("depends on %s", path)
		}
	}
}
