package conn_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// Of this module the package imports loop and nothing else: it knows no payload, no SSE and no metrics. Of netpoll it
// knows nothing.
func TestDeps(t *testing.T) {
	deptest.Imports(t, ".", "golang.org/x/sys/unix", "loop")
}
