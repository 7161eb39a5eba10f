package target

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"

	"streaming-daemon-go/bench/wire"
)

// Spec is a program that can be started as a target.
type Spec struct {
	Name  string   // as reports show it
	Path  string   `json:"-"` // of the executable
	Loops int      // -loops; 0: the program's own choice
	Args  []string // after all others

	wrapper []string // the command in front; see UnderStrace
}

// ErrNoCompiler: there is no C compiler, so there is no floor to measure against.
var ErrNoCompiler = errors.New("target: no C compiler (cc) here: the floor cannot be built")

// BuildFloor compiles the bare epoll loop, source, into dir.
func BuildFloor(dir string, source []byte) (Spec, error) {
	cc, err := exec.LookPath("cc")
	if err != nil {
		return Spec{}, ErrNoCompiler
	}
	file := filepath.Join(dir, "floor.c")
	if err := os.WriteFile(file, source, 0o644); err != nil {
		return Spec{}, fmt.Errorf("target: %w", err)
	}
	spec := Spec{Name: "floor", Path: filepath.Join(dir, "floor")}
	// The bytes are in ASCII, and Go's and C's quotes agree on it.
	return spec, build(exec.Command(cc, "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror",
		"-DHEAD="+strconv.Quote(wire.Head), "-DEVENT="+strconv.Quote(wire.Event), "-DDONE="+strconv.Quote(wire.Done),
		"-o", spec.Path, file))
}

// BuildGoroutines compiles the classic design into dir.
func BuildGoroutines(dir string) (Spec, error) {
	return buildGo(dir, "goroutines", "streaming-daemon-go/bench/goroutines")
}

// BuildDaemon compiles the daemon into dir.
func BuildDaemon(dir string) (Spec, error) {
	return buildGo(dir, "daemon", "streaming-daemon-go/cmd/streaming-daemon")
}

// BuildMock compiles the upstream of a relay into dir. It is no target: it takes no handoffs.
func BuildMock(dir string) (Spec, error) {
	return buildGo(dir, "mockllm", "streaming-daemon-go/bench/mockllm")
}

func buildGo(dir, name, pkg string) (Spec, error) {
	spec := Spec{Name: name, Path: filepath.Join(dir, name)}
	return spec, build(exec.Command("go", "build", "-o", spec.Path, pkg))
}

func build(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("target: %s: %w\n%s", filepath.Base(cmd.Path), err, out)
	}
	return nil
}
