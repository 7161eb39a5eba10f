package stream_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// Goal: clients that all come in on one loop are spread evenly, and those that come after some have left fill the
// gaps. The counts agree with what was done; streamtest checks that they go back to zero.
func TestPlacement(t *testing.T) {
	for _, loops := range []int{1, 2, 4} {
		t.Run(fmt.Sprint(loops), func(t *testing.T) {
			const each = 25
			n := each * loops
			r := rigOf(t, loops, func() *streamtest.Script { return &streamtest.Script{} }, nil)
			var clients []*streamtest.Client
			for range n {
				clients = append(clients, r.Unix(""))
			}
			settle := func(want int) {
				t.Helper()
				fdtest.Eventually(t, "all streams to be open, evenly", func() bool {
					c := r.Server.Counts()
					for _, n := range c.PerLoop {
						if n != int64(want) {
							return false
						}
					}
					return len(c.PerLoop) == loops && c.Streams == int64(want*loops) && c.Connections == c.Streams &&
						c.Streams == r.Server.Held()
				})
			}
			settle(each)
			for i, l := range r.Pool.Loops() {
				r.On(i, func() {
					if got := l.Sources(); got != each {
						t.Errorf("loop %d watches %d sockets, want %d", i, got, each)
					}
				})
			}
			for _, c := range clients[:n/5] {
				_ = c.Close()
			}
			fdtest.Eventually(t, "the gaps", func() bool { return r.Server.Counts().Streams == int64(n-n/5) })
			for range n / 5 {
				r.Unix("")
			}
			settle(each)
			if p := r.Server.Counts().Peak; p != int64(n) {
				t.Errorf("peak %d, want %d", p, n)
			}
		})
	}
}

// tally counts backends that live and the most there were.
type tally struct {
	now, most, started atomic.Int64
}

func (a *tally) script() *streamtest.Script {
	s := &streamtest.Script{}
	s.OnStart = func(*streamtest.Script, fdrecv.Payload) error {
		a.started.Add(1)
		now := a.now.Add(1)
		for {
			most := a.most.Load()
			if now <= most || a.most.CompareAndSwap(most, now) {
				return nil
			}
		}
	}
	s.OnStop = func(*streamtest.Script, error) { a.now.Add(-1) }
	return s
}

// Goal: MaxConnections holds, exactly, when handoffs come in on several loops at once, and so does the reserve. Method:
// three times as many clients as there is room, from four loops at the same time; then room is made and filled again.
func TestMaxConnections(t *testing.T) {
	const loops, limit, n = 4, 40, 120
	var a tally
	r := rigOf(t, loops, a.script, func(c *stream.Config) {
		c.MaxConnections, c.RejectReserve = limit, n
		c.OpenFailed = nil
	})
	wave := func() (clients []*streamtest.Client) {
		var wg sync.WaitGroup
		for i := range n {
			c := streamtest.NewUnix(t)
			clients = append(clients, c)
			h := c.Take()
			wg.Add(1)
			if err := r.Pool.Loops()[i%loops].Post(func() { defer wg.Done(); r.Server.Handoff(i%loops, h) }); err != nil {
				t.Fatal(err)
			}
		}
		wg.Wait()
		return clients
	}
	first := wave()
	fdtest.Eventually(t, "all to be started or refused", func() bool {
		return a.started.Load()+int64(r.Server.Counts().Rejected) == n
	})
	// Two loops may add to the count at the same time and both find it too high: never too many, rarely one too few.
	if m := a.most.Load(); m > limit || m < limit-loops {
		t.Errorf("%d streams at a time, want %d", m, limit)
	}
	for _, c := range first {
		_ = c.Close()
	}
	fdtest.Eventually(t, "all to be gone", func() bool { return r.Server.Held() == 0 })
	second := wave()
	fdtest.Eventually(t, "all to be started or refused again", func() bool {
		return a.started.Load()+int64(r.Server.Counts().Rejected) == 2*n
	})
	if m := a.most.Load(); m > limit || a.started.Load() < 2*(limit-loops) {
		t.Errorf("%d streams at a time and %d in all, want %d and %d", m, a.started.Load(), limit, 2*limit)
	}
	for _, c := range second {
		_ = c.Close()
	}
}

// Goal: a client that leaves is noticed at once, without a write (P-14), a half-close included; its slot is free. The
// client that leaves has data unread for good measure.
func TestHangupFreesTheSlot(t *testing.T) {
	leave := map[string]func(c *streamtest.Client){
		"close":      func(c *streamtest.Client) { _ = c.Close() },
		"half-close": func(c *streamtest.Client) { _ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() },
	}
	for how, f := range leave {
		for kind, newClient := range streamtest.Kinds {
			t.Run(how+"/"+kind, func(t *testing.T) {
				k := &streamtest.Kernel{}
				var scripts []*streamtest.Script // loop 0
				newScript := func() *streamtest.Script {
					s := &streamtest.Script{}
					scripts = append(scripts, s)
					return s
				}
				r := rigOf(t, 1, newScript, func(c *stream.Config) { c.MaxConnections, c.Conn.Kernel = 1, k })
				c := newClient(t)
				r.Handoff(0, c.Take())
				f(c)
				fdtest.Eventually(t, "the slot", func() bool { return r.Server.Held() == 0 })
				r.On(0, func() {
					if err := scripts[0].Cause(); !errors.Is(err, conn.ErrHangup) {
						t.Errorf("Stop(%v)", err)
					}
				})
				if w := k.Writes(c.FD); len(w) != 1 || w[0] != head {
					t.Errorf("writes %q, want the head only", w)
				}
				next := r.TCP("")
				next.Until(head)
				r.On(0, func() { scripts[1].End(nil) })
				next.All()
			})
		}
	}
}

// failing is a kernel that cannot take over a socket.
type failing struct{ streamtest.Kernel }

func (*failing) Attach(*loop.Source, *loop.Loop, loop.FD, loop.Handler) error { return unix.ENOMEM }

// A client whose socket cannot be taken over is closed, counted and logged; no slot is lost.
func TestOpenFails(t *testing.T) {
	var failures atomic.Int64
	var a tally
	r := rigOf(t, 1, a.script, func(c *stream.Config) {
		c.Conn.Kernel = &failing{}
		c.MaxConnections = 1
		c.OpenFailed = func(err error) {
			if errors.Is(err, unix.ENOMEM) {
				failures.Add(1)
			}
		}
	})
	c := r.TCP("")
	if got := c.AwaitEnd(); got != "" {
		t.Errorf("got %q", got)
	}
	refused := streamtest.NewTCP(t)
	h := refused.Take()
	h.Err = fdrecv.ErrMalformed
	r.Handoff(0, h)
	if got := refused.AwaitEnd(); got != "" {
		t.Errorf("got %q", got)
	}
	if n := failures.Load(); n != 2 || a.started.Load() != 0 || r.Server.Held() != 0 {
		t.Errorf("%d failures, %d started, %d held", n, a.started.Load(), r.Server.Held())
	}
	if !strings.Contains(r.Log.String(), "a client was lost") {
		t.Errorf("log %q", r.Log)
	}
}

// Goal: bytes and events are counted as the client sees them, heads included, over all loops.
func TestCounts(t *testing.T) {
	var scripts = make(chan *streamtest.Script, 4)
	r := rigOf(t, 2, func() *streamtest.Script {
		s := &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error {
			s.Send(one)
			s.Send(two)
			s.End(nil)
			return nil
		}}
		scripts <- s
		return s
	}, nil)
	total := 0
	for range 4 {
		total += len(r.TCP("").All())
	}
	if c := r.Server.Counts(); c.Bytes != uint64(total) || c.Events != 8 || c.Rejected+c.Cut+c.Evicted != 0 {
		t.Errorf("counts %+v, want %d bytes and 8 events", c, total)
	}
	r.AwaitEnds(4)
	if n := r.FirstBytes(); n != 4 {
		t.Errorf("%d times to a first byte, want 4", n)
	}
}

// Goal: nothing keeps a stream once it is over: not its timer, which was set for an hour from now. Method: the garbage
// collector tells. (A loop's shard of conns remembers who wrote last: a second stream takes that place.)
func TestStreamIsForgotten(t *testing.T) {
	var first weak.Pointer[stream.Stream]
	n := 0
	newScript := func() *streamtest.Script {
		s := &streamtest.Script{OnStop: func(s *streamtest.Script, _ error) { s.Out = nil }}
		if n++; n == 1 {
			s.OnStart = func(s *streamtest.Script, _ fdrecv.Payload) error { first = weak.Make(s.Out); return nil }
		}
		return s
	}
	r := rigOf(t, 1, newScript, func(c *stream.Config) { c.HeartbeatInterval, c.MaxStreamDuration = time.Hour, time.Hour })
	c := r.TCP("")
	c.Until(head)
	_ = c.Close()
	r.AwaitEnds(1)
	r.TCP("").Until(head)
	fdtest.Eventually(t, "the stream to be collected", func() bool { runtime.GC(); return first.Value() == nil })
}

// Goal: the time to the first byte is observed for a stream whose first write the kernel did not take, too, and before
// its end.
func TestFirstByteOfABlockedStream(t *testing.T) {
	g := newGate()
	g.shut.Store(true)
	firsts := make(chan time.Duration, 2)
	s := &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Send(one); s.End(nil); return nil }}
	r := rigWith(t, s, func(c *stream.Config) {
		c.Conn.Kernel = g
		c.FirstByte = func(d time.Duration) { firsts <- d }
		c.Ended = func(stream.End) { close(firsts) }
	})
	c := r.TCP("")
	fdtest.Eventually(t, "bytes that wait", func() bool { return r.Server.Counts().Pending > 0 })
	g.shut.Store(false)
	if got := c.All(); got != head+one+done {
		t.Errorf("got %q", got)
	}
	if d, ok := <-firsts; !ok || d <= 0 {
		t.Errorf("first byte after %v, observed before the end: %v", d, ok)
	}
	if _, ok := <-firsts; ok {
		t.Error("observed twice")
	}
}
