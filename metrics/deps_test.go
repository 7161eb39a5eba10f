package metrics_test

import (
	"testing"

	"streaming-daemon-go/fdrecv/deptest"
)

// The package knows no other package of the module but its own endpoint, and
// what it needs from outside is the one library, with that library's own needs.
func TestImports(t *testing.T) {
	const library = "github.com/VictoriaMetrics/metrics"
	deptest.Imports(t, ".", library, "metrics/endpoint")
	deptest.Deps(t, ".", library, "metrics/endpoint", "github.com/valyala/fastrand", "github.com/valyala/histogram")
}
