package upgrade_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// It passes sockets on and knows none of those who listen on them.
func TestImports(t *testing.T) {
	deptest.Imports(t, ".", "golang.org/x/sys/unix", "loop")
}
