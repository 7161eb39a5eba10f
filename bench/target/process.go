package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Demo is what the target is asked to do.
type Demo struct {
	Socket   Socket        // the one that it listens on: a second one would cost descriptors that streams need
	Delay    time.Duration // between two events
	Messages int           // equal events per stream; 0: the prompt, word by word
	Streams  int           // at the same time, at most
}

// Socket is a type of handoff socket.
type Socket uint8

// The two types that a target can listen on.
const (
	SeqpacketSocket Socket = iota
	StreamSocket
)

// Process is a running target.
type Process struct {
	Name      string
	PID       int
	Stream    string // path of the SOCK_STREAM handoff socket; empty: not known
	Seqpacket string // path of the SOCK_SEQPACKET handoff socket; empty: not known

	cmd    *exec.Cmd // nil: attached, not ours to stop
	exited chan struct{}
	err    error // of Wait; valid once exited is closed
	output *tail
}

const (
	startPatience = 10 * time.Second
	stopPatience  = 10 * time.Second
	// connectionsSpare is how many connections above the number of streams the target may hold: handoffs under way,
	// and clients that are gone but not noticed yet.
	connectionsSpare = 1000
)

// Start runs spec with its socket in dir and returns when it takes connections. Stop ends it.
func Start(ctx context.Context, spec Spec, dir string, demo Demo) (*Process, error) {
	p := &Process{Name: spec.Name, exited: make(chan struct{}), output: &tail{}}
	network, path := "unixpacket", filepath.Join(dir, spec.Name+".sock")
	if demo.Socket == StreamSocket {
		network, p.Stream = "unix", path
	} else {
		p.Seqpacket = path
	}
	args := []string{
		"-socket", p.Stream, "-seqpacket-socket", p.Seqpacket, "-metrics-addr", "",
		"-max-connections", strconv.Itoa(demo.Streams + connectionsSpare),
		"-backend", "demo", "-demo-delay", demo.Delay.String(), "-demo-messages", strconv.Itoa(demo.Messages),
		"-loops", strconv.Itoa(spec.Loops), "-log-level", "warn",
	}
	line := slices.Concat(spec.wrapper, []string{spec.Path}, args, spec.Args)
	p.cmd = exec.Command(line[0], line[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("target: start %s: %w", spec.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	if err := p.waitFor(ctx, network, path); err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	if len(spec.wrapper) > 0 {
		var err error
		if p.PID, err = child(p.PID); err != nil {
			return nil, errors.Join(err, p.cmd.Process.Kill())
		}
	}
	return p, nil
}

// Attach watches a process that somebody else has started. Stop leaves it alone.
func Attach(pid int, stream, seqpacket string) (*Process, error) {
	if err := syscall.Kill(pid, 0); err != nil && !errors.Is(err, syscall.EPERM) {
		return nil, fmt.Errorf("target: process %d: %w", pid, err)
	}
	return &Process{Name: "pid " + strconv.Itoa(pid), PID: pid, Stream: stream, Seqpacket: seqpacket}, nil
}

// waitFor returns once path takes a connection. The probe is a handoff without a descriptor: worth a counter there.
func (p *Process) waitFor(ctx context.Context, network, path string) error {
	for {
		conn, err := net.Dial(network, path)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("target: %s ended at start: %v\n%s", p.Name, p.err, p.output)
		case <-ctx.Done():
			return fmt.Errorf("target: %s does not listen on %s: %w\n%s", p.Name, path, err, p.output)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Running reports whether the process is there.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return syscall.Kill(p.PID, 0) == nil
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Output is the last of what the target has printed; empty for an attached one.
func (p *Process) Output() string {
	if p.output == nil {
		return ""
	}
	return p.output.String()
}

// Stop ends a process that Start started: SIGTERM, and SIGKILL when that does not help. An error says that it did not
// end by itself, or not with status 0. Twice is safe.
func (p *Process) Stop() error {
	if p.cmd == nil {
		return nil
	}
	if p.Running() {
		_ = syscall.Kill(p.PID, syscall.SIGTERM) // ESRCH: it has ended this moment, see below
	}
	select {
	case <-p.exited:
	case <-time.After(stopPatience):
		_ = syscall.Kill(p.PID, syscall.SIGKILL)
		<-p.exited
		return fmt.Errorf("target: %s did not end within %v of SIGTERM\n%s", p.Name, stopPatience, p.output)
	}
	if p.err != nil {
		return fmt.Errorf("target: %s: %w\n%s", p.Name, p.err, p.output)
	}
	return nil
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte // guarded by mu
}

const tailBytes = 8 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailBytes; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}
