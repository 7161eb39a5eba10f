package streamtest

import (
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
)

// Patience bounds every wait: far beyond what a loaded machine needs under the race detector.
const Patience = 10 * time.Second

// Rig is a server on loops of its own.
type Rig struct {
	Pool   *loop.Pool
	Server *stream.Server
	Log    *Log

	t       testing.TB
	mu      sync.Mutex
	ends    []stream.End
	firsts  int
	scripts []*Script
}

// New starts a server on the given number of loops. change, if not nil, changes the settings. When the test ends, and
// its clients are closed, the counts must go back to zero, and neither descriptor nor goroutine may be left.
func New(t testing.TB, loops int, change func(*stream.Config)) *Rig {
	t.Helper()
	fdtest.NoLeaks(t)
	pool, err := loop.NewPool(loops)
	if err != nil {
		t.Fatal(err)
	}
	r := &Rig{Pool: pool, Log: &Log{}, t: t}
	cfg := stream.Config{
		MaxConnections:  10_000,
		RejectReserve:   64,
		RetryAfter:      3 * time.Second,
		MaxPendingBytes: 1 << 30,
		Log:             slog.New(slog.NewTextHandler(r.Log, nil)),
		OpenFailed:      func(err error) { t.Errorf("a client was lost: %v", err) },
	}
	if change != nil {
		change(&cfg)
	}
	ended, first := cfg.Ended, cfg.FirstByte
	cfg.Ended = func(e stream.End) {
		r.mu.Lock()
		r.ends = append(r.ends, e)
		r.mu.Unlock()
		if ended != nil {
			ended(e)
		}
	}
	cfg.FirstByte = func(d time.Duration) {
		r.mu.Lock()
		r.firsts++
		r.mu.Unlock()
		if first != nil {
			first(d)
		}
	}
	r.Server = stream.NewServer(pool, cfg)
	t.Cleanup(r.end)
	return r
}

// end runs after the clients' own cleanup: they are closed, so every stream must find out.
func (r *Rig) end() {
	defer r.Pool.Close()
	fdtest.Eventually(r.t, "all counts to be zero", func() bool {
		c := r.Server.Counts()
		sum := c.Connections + c.Streams + c.Paused + c.Pending + r.Server.Held()
		for _, n := range c.PerLoop {
			if n != 0 {
				return false
			}
		}
		return sum == 0
	})
	for i := range r.Pool.Loops() {
		r.On(i, func() {}) // what was posted before, Stop for one, has run
		r.On(i, func() {
			if n := r.Pool.Loops()[i].Sources(); n != 0 {
				r.t.Errorf("%d sources are attached", n)
			}
		})
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.scripts {
		s.check(r.t)
	}
}

// On runs f on a loop, in one turn, and waits for it.
func (r *Rig) On(index int, f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.Pool.Loops()[index].Post(func() { defer close(done); f() }); err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(Patience):
		r.t.Fatal("waited in vain for a posted function")
	}
}

// Handoff gives the server a handoff, on the loop with the index, as package fdrecv does, and waits for the turn.
func (r *Rig) Handoff(index int, h fdrecv.Handoff) {
	r.t.Helper()
	h.AcceptedAt = r.Pool.Loops()[0].Clock()
	r.On(index, func() { r.Server.Handoff(index, h) })
}

// Ends are the ends of streams so far, in order.
func (r *Rig) Ends() []stream.End {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]stream.End(nil), r.ends...)
}

// FirstBytes is how often the time to a first byte was observed.
func (r *Rig) FirstBytes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.firsts
}

// AwaitEnds waits for the end of n streams and gives them.
func (r *Rig) AwaitEnds(n int) []stream.End {
	r.t.Helper()
	fdtest.Eventually(r.t, "the end of the streams", func() bool { return len(r.Ends()) >= n })
	ends := r.Ends()
	if len(ends) != n {
		r.t.Fatalf("%d streams ended, want %d", len(ends), n)
	}
	return ends
}

// Payload reads a payload, which must be well-formed.
func Payload(t testing.TB, json string) fdrecv.Payload {
	t.Helper()
	p, err := fdrecv.ParsePayload([]byte(json))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Log collects what is logged.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
