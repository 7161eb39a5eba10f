package stream_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

const (
	head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
		"Connection: close\r\nX-Accel-Buffering: no\r\n\r\n"
	one       = "data: one\n\n"
	two       = "data: two\n\n"
	done      = "data: [DONE]\n\n"
	heartbeat = ": heartbeat\n\n"
	internal  = "event: error\ndata: {\"error\":{\"message\":\"internal error\"}}\n\n"
)

// rigWith starts a server whose only stream has the backend s.
func rigWith(t testing.TB, s *streamtest.Script, change func(*stream.Config)) *streamtest.Rig {
	t.Helper()
	var r *streamtest.Rig
	r = streamtest.New(t, 1, func(c *stream.Config) {
		c.NewBackend = s.Maker(&r)
		if change != nil {
			change(c)
		}
	})
	return r
}

// rigOf starts a server in which each stream's backend comes from newScript, which is called on the loops.
func rigOf(t testing.TB, loops int, newScript func() *streamtest.Script, change func(*stream.Config)) *streamtest.Rig {
	t.Helper()
	var r *streamtest.Rig
	r = streamtest.New(t, loops, func(c *stream.Config) {
		c.NewBackend = func(*loop.Loop) stream.Backend {
			s := newScript()
			r.Watch(s)
			return s
		}
		if change != nil {
			change(c)
		}
	})
	return r
}

// response reads an HTTP response as a client does.
func response(t testing.TB, got string) (r *http.Response, body string) {
	t.Helper()
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(got)), nil)
	if err != nil {
		t.Fatalf("%v in %q", err, got)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("%v in %q", err, got)
	}
	return r, string(b)
}

// timer closes a channel when it fires.
type timer struct {
	loop.Timer
	fired chan struct{}
}

func (f *timer) Fire()        { close(f.fired) }
func (f *timer) Failed(error) {}

// after waits until a timer of loop 0 that is set for d from now has fired: what was due by then has had its turn.
func after(t testing.TB, r *streamtest.Rig, d time.Duration) {
	t.Helper()
	f := &timer{fired: make(chan struct{})}
	f.Firer = f
	l := r.Pool.Loops()[0]
	r.On(0, func() { l.Arm(&f.Timer, l.Now()+d) })
	select {
	case <-f.fired:
	case <-time.After(streamtest.Patience):
		t.Fatal("waited in vain for a timer")
	}
}

// gate is a kernel that takes nothing while it is shut.
type gate struct {
	streamtest.Kernel
	shut atomic.Bool
}

func newGate() *gate {
	g := &gate{}
	g.Take = func(_, offered int) (int, error) {
		if g.shut.Load() {
			return 0, unix.EAGAIN
		}
		return offered, nil
	}
	return g
}
