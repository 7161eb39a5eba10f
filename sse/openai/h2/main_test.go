package h2_test

import (
	"os"
	"runtime"
	"testing"
)

// TestMain gives readers and servers a P beside those that waiting loops keep, as the daemon does.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	os.Exit(m.Run())
}
