package main_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// The harness measures the daemon from outside: of our packages it may use the loop, the wire format, and the sending
// side of the handoff, in no file that is not a test.
func TestImports(t *testing.T) {
	deptest.Imports(t, "./...", "fdrecv", "github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys/unix", "loop", "sse")
}
