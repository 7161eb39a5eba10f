package daemontest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the daemon, from Main on.
var binary string

// Main builds the daemon, runs the tests and gives the exit code for TestMain.
func Main(m *testing.M) int {
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
	if out, err := exec.Command("go", append(args, "streaming-daemon-go/cmd/streaming-daemon")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=50") // left alone, the race detector holds each process up for a second at its end
	}
	return m.Run()
}
