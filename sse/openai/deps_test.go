package openai_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Goal: the contract stays a leaf, so that transports and backend can be built apart, and no transport knows the
// backend. Method: the direct imports of ours, package by package.
func TestImports(t *testing.T) {
	const ours = "streaming-daemon-go/"
	may := map[string][]string{
		ours + "sse/openai/upstream": {"loop"},
		ours + "sse/openai/h1":       {"loop", "sse/openai/upstream"},
		ours + "sse/openai":          {"loop", "fdrecv", "sse", "sse/stream", "sse/openai/upstream", "sse/openai/h1", "sse/openai/h1tls", "sse/openai/h2"},
	}
	for pkg, allowed := range may {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, pkg).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		if !strings.Contains(string(out), ours+"loop") {
			t.Errorf("%s does not import loop: %s", pkg, out)
		}
		for path := range strings.FieldsSeq(string(out)) {
			if name, ok := strings.CutPrefix(path, ours); ok && !slices.Contains(allowed, name) {
				t.Errorf("%s imports %s", pkg, name)
			}
		}
	}
}
