package target

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrNoStrace: strace is not installed.
var ErrNoStrace = errors.New("target: no strace here: syscalls cannot be counted")

// UnderStrace gives spec run under strace, which writes how often each syscall was made to the file counts when the
// target has ended. It is many times slower so: good for counting only.
func UnderStrace(spec Spec, counts string) (Spec, error) {
	path, err := exec.LookPath("strace")
	if err != nil {
		return spec, ErrNoStrace
	}
	spec.wrapper = []string{path, "-f", "-c", "-U", "calls,name", "-o", counts}
	return spec, nil
}

// child is the one child of a wrapper, to which signals must go: strace would let go of it and end.
func child(pid int) (int, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "task", strconv.Itoa(pid), "children"))
	if err != nil {
		return 0, fmt.Errorf("target: %w", err)
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(b)), " ")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0, fmt.Errorf("target: no child of %d: %w", pid, err)
	}
	return n, nil
}

// Syscalls reads the file that UnderStrace named: the number of calls by name.
func Syscalls(counts string) (map[string]uint64, error) {
	f, err := os.Open(counts)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	defer func() { _ = f.Close() }()
	calls := map[string]uint64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) != 2 || fields[1] == "total" {
			continue
		}
		if n, err := strconv.ParseUint(fields[0], 10, 64); err == nil { // else: head and rules of the table
			calls[fields[1]] = n
		}
	}
	return calls, lines.Err()
}
