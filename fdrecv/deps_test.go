package fdrecv_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// fdrecv knows loop and nothing else of ours, and of the outside only what talks to the kernel.
func TestImports(t *testing.T) {
	deptest.Imports(t, ".", "golang.org/x/sys/unix", "loop")
}
