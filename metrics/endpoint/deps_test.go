package endpoint_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// Whoever serves HTTP may use it: it needs the standard library alone.
func TestImports(t *testing.T) {
	deptest.Deps(t, ".")
}
