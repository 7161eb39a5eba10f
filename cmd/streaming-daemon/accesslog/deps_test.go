package accesslog_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// A log knows how to escape, and nothing else of ours: neither streams nor loops.
func TestImports(t *testing.T) {
	deptest.Deps(t, ".", "cmd/streaming-daemon/escape")
}
