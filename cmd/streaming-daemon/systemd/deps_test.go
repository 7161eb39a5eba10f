package systemd_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// It speaks with the service manager and knows nothing of what it speaks about.
func TestImports(t *testing.T) {
	deptest.Imports(t, ".", "github.com/coreos/go-systemd/v22/activation", "github.com/coreos/go-systemd/v22/daemon",
		"golang.org/x/sys/unix", "loop")
}
