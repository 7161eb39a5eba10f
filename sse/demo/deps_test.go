package demo_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// The arrows between packages stay as they are. loop and fdrecv are here for what the contract of a backend names: the
// loop that it lives on, and the payload.
func TestDeps(t *testing.T) {
	deptest.Imports(t, ".", "fdrecv", "loop", "sse", "sse/stream")
}
