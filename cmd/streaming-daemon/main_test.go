package main_test

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// binary is the daemon under test, built once for all tests.
var binary string

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// TestMain builds the daemon, with the race detector when the tests run under it, and holds the whole run to leaving
// no descriptor and no goroutine behind in this process: the tests run side by side, so that none could do it for
// itself.
func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sd")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "streaming-daemon")
		args := []string{"build", "-o", binary}
		if raceEnabled {
			args = append(args, "-race")
		}
		if out, err := exec.Command("go", append(args, ".")...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
			return 1
		}
		// One test starts the daemon as another user.
		if err := os.Chmod(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if os.Getenv("GORACE") == "" {
			// Left alone, the race detector holds each process up for a second at its end.
			os.Setenv("GORACE", "atexit_sleep_ms=50")
		}
		fds, goroutines := countFDs("self"), runtime.NumGoroutine()
		code := m.Run()
		http.DefaultClient.CloseIdleConnections()
		if code == 0 && !holds(10*time.Second, func() bool {
			return countFDs("self") <= fds && runtime.NumGoroutine() <= goroutines
		}) {
			fmt.Fprintf(os.Stderr, "descriptors before: %d, after: %d; goroutines before: %d, after: %d\n",
				fds, countFDs("self"), goroutines, runtime.NumGoroutine())
			return 1
		}
		return code
	}())
}

// countFDs counts the descriptors of a process; -1: it is gone.
func countFDs(pid string) int {
	entries, err := os.ReadDir("/proc/" + pid + "/fd")
	if err != nil {
		return -1
	}
	if pid == "self" {
		return len(entries) - 1 // the one that read the directory
	}
	return len(entries)
}
