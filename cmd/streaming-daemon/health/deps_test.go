package health_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// It asks through an interface of its own.
func TestImports(t *testing.T) {
	deptest.Imports(t, ".")
}
