package stream_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// topic sends each event to all its subscribers on one loop. It walks its own list while it sends, so whatever Send
// does, it must not take a subscriber off that list.
type topic struct {
	subscribers []*streamtest.Script
	walking     bool
	paused      map[*streamtest.Script]bool
}

func (p *topic) publish(t testing.TB, event []byte) {
	p.walking = true
	for _, s := range p.subscribers {
		if !p.paused[s] {
			s.Out.Send(event)
		}
	}
	p.walking = false
}

func (p *topic) subscriber(t testing.TB) *streamtest.Script {
	return &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error {
			p.subscribers = append(p.subscribers, s)
			return nil
		},
		OnPause:  func(s *streamtest.Script) { p.change(t); p.paused[s] = true },
		OnResume: func(s *streamtest.Script) { p.change(t); delete(p.paused, s) },
		OnDrain:  func(s *streamtest.Script) { s.End(nil) },
		OnStop: func(s *streamtest.Script, _ error) {
			p.change(t)
			i := slices.Index(p.subscribers, s)
			p.subscribers = slices.Delete(p.subscribers, i, i+1)
			delete(p.paused, s)
		},
	}
}

func (p *topic) change(t testing.TB) {
	if p.walking {
		t.Error("a subscriber was told something in the middle of the walk over subscribers")
	}
}

// Goal: one event to 1,000 subscribers is encoded once and shared: while all of them wait for their clients, it exists
// once. Subscribers that have left, or are paused by it, in the middle of the walk are no hazard, whether the walk runs
// from a posted function or from inside a subscriber's own callback. Method: a kernel that takes nothing for most, and
// says that every tenth client is gone.
func TestBroadcast(t *testing.T) {
	const n, size = 1000, 64 << 10
	gone := map[int]bool{} // by descriptor; loop 0
	g := newGate()
	take := g.Take
	g.Take = func(fd, offered int) (int, error) {
		if g.shut.Load() && gone[fd] {
			return 0, unix.EPIPE
		}
		return take(fd, offered)
	}
	p := &topic{paused: map[*streamtest.Script]bool{}}
	r := rigOf(t, 1, func() *streamtest.Script { return p.subscriber(t) }, func(c *stream.Config) { c.Conn.Kernel = g })
	var clients []*streamtest.Client
	for range n {
		c := r.Unix("")
		c.Until(head)
		clients = append(clients, c)
	}
	event := sse.AppendEvent(nil, sse.Event{Data: []byte(strings.Repeat("x", size))})
	before, after := heap(), uint64(0)
	r.On(0, func() {
		for i := 0; i < n; i += 10 {
			gone[clients[i].FD] = true
		}
		g.shut.Store(true)
		p.publish(t, event)
		if len(p.subscribers) != n {
			t.Errorf("%d subscribers are left before a turn is over", len(p.subscribers))
		}
	})
	fdtest.Eventually(t, "those that are gone to be told", func() bool { return r.Server.Counts().Streams == n-n/10 })
	if c := r.Server.Counts(); c.Pending != int64((n-n/10)*len(event)) || c.Paused != n-n/10 {
		t.Errorf("counts %+v, want each of %d to wait for %d bytes, paused", c, n-n/10, len(event))
	}
	if after = heap(); after > before+n*size/32 {
		t.Errorf("%d bytes of heap for %d waiting clients: the event of %d bytes is not shared", after-before, n, len(event))
	}
	g.shut.Store(false)
	fdtest.Eventually(t, "all to be resumed", func() bool { return r.Server.Counts().Paused == 0 })
	r.On(0, func() {
		if len(p.subscribers) != n-n/10 || len(p.paused) != 0 {
			t.Errorf("%d subscribers, %d of them paused", len(p.subscribers), len(p.paused))
		}
	})
	r.Server.Drain()
	for i, c := range clients {
		want := head + string(event) + done
		if i%10 == 0 {
			want = head
		}
		if got := c.AwaitEnd(); got != want {
			t.Fatalf("client %d: %d bytes, want %d", i, len(got), len(want))
		}
		_ = c.Close()
	}
}

// heap is the live heap in bytes.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The walk runs inside the Wake of a subscriber, which is one of those it sends to.
func TestBroadcastFromACallback(t *testing.T) {
	const n, rounds = 20, 30
	p := &topic{paused: map[*streamtest.Script]bool{}}
	sent := 0
	r := rigOf(t, 1, func() *streamtest.Script {
		s := p.subscriber(t)
		s.OnWake = func(s *streamtest.Script, due time.Duration) {
			p.publish(t, fmt.Appendf(nil, "data: %d\n\n", sent))
			if sent++; sent < rounds {
				s.Out.WakeAt(due + loop.TickLength)
			}
		}
		return s
	}, nil)
	var clients []*streamtest.Client
	for range n {
		clients = append(clients, r.TCP(""))
	}
	r.On(0, func() { p.subscribers[0].Out.WakeAt(1) })
	want := ""
	for i := range rounds {
		want += fmt.Sprintf("data: %d\n\n", i)
		if i == rounds/2 {
			_ = clients[n-1].Close() // in the middle of it all
		}
	}
	for _, c := range clients[:n-1] {
		if got := strings.TrimPrefix(c.Until(fmt.Sprintf("data: %d\n\n", rounds-1)), head); got != want {
			t.Errorf("got %q", got)
		}
	}
	r.Server.Drain()
	for _, c := range clients[:n-1] {
		if got := c.All(); got != head+want+done {
			t.Errorf("got %q", got)
		}
	}
}
