package config_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// Settings are read here and used elsewhere: of ours, config knows the type and the checks of a payload, which header
// fields are possible, and the OpenAI backend's own reading of its profiles; never the daemon or its metrics.
func TestImports(t *testing.T) {
	deptest.Imports(t, ".", "fdrecv", "go.yaml.in/yaml/v4", "sse", "sse/openai")
}
