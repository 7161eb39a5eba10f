package stream_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// The arrows between packages stay as they are. loop and fdrecv are here for what the contract names: the loop that a
// backend lives on, and the payload.
func TestDeps(t *testing.T) {
	deptest.Imports(t, ".", "conn", "fdrecv", "loop", "sse")
}
