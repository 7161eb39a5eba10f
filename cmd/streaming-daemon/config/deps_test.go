package config_test

import (
	"os/exec"
	"strings"
	"testing"
)

// Settings are read here and used elsewhere: of ours, config knows the type and the checks of a payload, which header
// fields are possible, and the OpenAI backend's own reading of its profiles; never the daemon or its metrics.
func TestImports(t *testing.T) {
	allowed := map[string]bool{
		"streaming-daemon-go/fdrecv": true, "streaming-daemon-go/sse": true, "streaming-daemon-go/sse/openai": true,
		"go.yaml.in/yaml/v4": true,
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		if first, _, _ := strings.Cut(path, "/"); (first == "streaming-daemon-go" || strings.Contains(first, ".")) && !allowed[path] {
			t.Errorf("imports %s", path)
		}
	}
}
