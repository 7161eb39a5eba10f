package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// channelEnv tells a successor which descriptor its end of the socket pair is.
const channelEnv = "STREAMING_DAEMON_UPGRADE_FD"

// channelFD is that descriptor: the first behind the standard streams (os/exec, Cmd.ExtraFiles).
const channelFD = 3

const (
	abortGrace  = time.Second // for a successor that is told to end, before it is killed
	sendTimeout = time.Second // for a packet to find room: a successor that lives reads at once
)

// notInherited are variables that speak of one process: of descriptors that this one was given, and of its pid.
var notInherited = []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", channelEnv}

// Program is what to start.
type Program struct {
	Path string   // of the binary
	Args []string // the name in front
	Env  []string // without what speaks of this process alone; that is taken out here too
}

// Self is how this process was started, the binary by the name that it was started with: /proc/self/exe would be the
// old file, deleted by now or behind a link that has moved. Call it before the working directory changes.
func Self() (Program, error) {
	path, err := exec.LookPath(os.Args[0])
	if err != nil {
		// A name that is none, as exec -a gives: what is left is the file that runs, wherever it is now.
		if path, err = os.Executable(); err != nil {
			return Program{}, fmt.Errorf("upgrade: which binary to start: %w", err)
		}
	}
	if !strings.HasPrefix(path, "/") {
		dir, err := os.Getwd()
		if err != nil {
			return Program{}, fmt.Errorf("upgrade: which binary to start: %w", err)
		}
		path = dir + "/" + path
	}
	return Program{Path: path, Args: os.Args, Env: os.Environ()}, nil
}

// Successor is the process that has taken over, as its predecessor sees it. Every method may be called from any
// goroutine.
type Successor struct {
	ch      *channel
	process *os.Process
	stop    chan struct{} // closed when the successor asks for an end, or is gone
	gone    bool          // valid once stop is closed
}

// Start starts p, hands it sockets, and returns once it accepts: then the sockets are its own, and the caller lets go
// of its copies. The descriptors in sockets are lent for the call. It blocks, for timeout and a second at most.
//
// An error says why, in one line. Then the successor has ended, by itself or by SIGKILL, and nothing has changed. ctx
// ends it early.
func Start(ctx context.Context, p Program, sockets []Socket, timeout time.Duration) (*Successor, error) {
	ch, far, err := newPair()
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{
		Path: p.Path, Args: p.Args, Env: append(inheritable(p.Env), channelEnv+"="+strconv.Itoa(channelFD)),
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		ExtraFiles: []*os.File{far},
	}
	err = cmd.Start()
	_ = far.Close()
	if err != nil {
		ch.close()
		return nil, fmt.Errorf("upgrade: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }() // for as long as it lives: a zombie otherwise
	// This breaks off a receive, and every later one; abort can still be sent.
	stopWatching := context.AfterFunc(ctx, func() { _ = ch.conn.CloseRead() })
	err = introduce(ctx, ch, sockets, time.Now().Add(timeout))
	stopWatching()
	if err != nil {
		return nil, undo(cmd.Process, ch, exited, err)
	}
	s := &Successor{ch: ch, process: cmd.Process, stop: make(chan struct{})}
	go s.listen()
	return s, nil
}

// inheritable leaves out what speaks of this process alone.
func inheritable(env []string) []string {
	var kept []string
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		drop := false
		for _, n := range notInherited {
			drop = drop || n == name
		}
		if !drop {
			kept = append(kept, e)
		}
	}
	return kept
}

// introduce is the exchange up to accepting.
func introduce(ctx context.Context, ch *channel, sockets []Socket, deadline time.Time) error {
	messages := []message{{Kind: kindHello, Version: version, Sockets: len(sockets)}}
	for i := range sockets {
		messages = append(messages, message{Kind: kindSocket, Socket: &sockets[i]})
	}
	if err := say(ch, messages, deadline); err != nil {
		return err
	}
	if err := expect(ctx, ch, kindReady, deadline); err != nil {
		return err
	}
	if err := say(ch, []message{{Kind: kindAccept}}, deadline); err != nil {
		return err
	}
	return expect(ctx, ch, kindAccepting, deadline)
}

// say sends to a successor that may have ended.
func say(ch *channel, messages []message, deadline time.Time) error {
	for _, m := range messages {
		if err := ch.send(m, deadline); errors.Is(err, syscall.EPIPE) {
			return fmt.Errorf("upgrade: the successor ended before it had read %q", m.Kind)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// expect waits for a message of the successor and passes over those that it does not know.
func expect(ctx context.Context, ch *channel, want kind, deadline time.Time) error {
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("upgrade: given up before the successor said %q: %w", want, err)
		}
		m, err := ch.receive(deadline)
		switch {
		case ctx.Err() != nil: // said above
		case errors.Is(err, io.EOF):
			return fmt.Errorf("upgrade: the successor ended before it said %q", want)
		case errors.Is(err, os.ErrDeadlineExceeded):
			return fmt.Errorf("upgrade: the successor did not say %q in time: %w", want, os.ErrDeadlineExceeded)
		case err != nil:
			return err
		case m.Kind == want:
			return nil
		case m.Kind == kindFailed:
			return fmt.Errorf("upgrade: the successor cannot start: %s", m.Reason)
		}
	}
}

// undo ends a successor that did not come about and gives the error with how it ended.
func undo(process *os.Process, ch *channel, exited <-chan error, err error) error {
	// The successor takes the end of the channel for the end of this process: it must hear of this first.
	_ = ch.send(message{Kind: kindAbort}, time.Now().Add(abortGrace))
	grace := time.NewTimer(abortGrace)
	defer grace.Stop()
	var end error
	select {
	case end = <-exited:
	case <-grace.C:
		_ = process.Kill()
		end = <-exited
	}
	ch.close()
	if end == nil {
		return err
	}
	return fmt.Errorf("%w (%w)", err, end)
}

// listen reads what the successor says after it has taken over.
func (s *Successor) listen() {
	defer close(s.stop)
	for {
		m, err := s.ch.receive(time.Time{})
		if s.gone = err != nil; s.gone || m.Kind == kindStop {
			return
		}
	}
}

// PID is the successor's process id.
func (s *Successor) PID() int { return s.process.Pid }

// Release tells the successor that every socket was let go, with what this process has counted so far (any value that
// JSON can carry).
func (s *Successor) Release(counts any) error { return s.tell(kindReleased, counts) }

// Count tells the successor what this process has counted so far.
func (s *Successor) Count(counts any) error { return s.tell(kindCounts, counts) }

func (s *Successor) tell(k kind, counts any) error {
	b, err := json.Marshal(counts)
	if err != nil {
		return fmt.Errorf("upgrade: counts: %w", err)
	}
	return s.ch.send(message{Kind: k, Counts: b}, time.Now().Add(sendTimeout))
}

// Stopped is closed when the successor is about to end, and this process should not outlive it by much; and when the
// successor is gone. Gone says which.
func (s *Successor) Stopped() <-chan struct{} { return s.stop }

// Close ends the connection: the successor sees the end of this process in it. For the very end, once the last Count is
// sent; the end of the process does the same. No other method after it but Gone.
func (s *Successor) Close() { s.ch.close() }

// Gone reports whether Stopped was closed because the successor's process has ended. Only once it is closed.
func (s *Successor) Gone() bool { return s.gone }
