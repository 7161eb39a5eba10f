package front_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// The front plays the web server: of ours it may know the wire format and how HTTP is served beside it, neither the
// daemon's loops nor its receiving side. The sending side is a func.
func TestImports(t *testing.T) {
	deptest.Deps(t, ".", "metrics/endpoint", "sse")
}
