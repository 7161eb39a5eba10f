package h1_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/h1"
	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/openai/upstreamtest"
)

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

// rig is a pool of loops and a transport to one target.
type rig struct {
	t    testing.TB
	pool *loop.Pool
	tr   *h1.Transport

	mayPanic bool
}

// noPanics collects what the loops log until check, which fails the test over a panic: a recovered one is easily
// overlooked.
func noPanics(t testing.TB) (check func(allowed bool)) {
	var log bytes.Buffer // slog's handlers serialize their writes; read after the loops have ended
	before := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(&log, nil)))
	return func(allowed bool) {
		slog.SetDefault(before)
		if strings.Contains(log.String(), "panic") != allowed {
			t.Errorf("panic allowed: %v, log: %s", allowed, log.String())
		}
	}
}

// newRig makes a rig of one loop that must leave nothing behind. The upstream is to be started before it.
func newRig(t testing.TB, cfg h1.Config) *rig { return newRigOf(t, 1, cfg) }

func newRigOf(t testing.TB, loops int, cfg h1.Config) *rig {
	t.Helper()
	fdtest.OpenFDs(t) // warms up what the runtime keeps
	pool, err := loop.NewPool(loops)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := h1.New(pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, pool: pool, tr: tr}
	panics := noPanics(t)
	t.Cleanup(func() {
		tr.Close()
		pool.Close()
		panics(r.mayPanic)
	})
	return r
}

// target is that of a scripted TCP upstream.
func target(s *upstreamtest.Server) upstream.Target {
	return upstream.Target{Host: "127.0.0.1", Port: s.Port()}
}

// on runs f on the first loop and waits for it.
func (r *rig) on(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.pool.Loops()[0].Post(func() { defer close(done); f() }); err != nil {
		r.t.Fatal(err)
	}
	await(r.t, done, "the loop")
}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// caller is the receiver of one call. The hooks run on the loop.
type caller struct {
	r      *rig
	call   upstream.Call
	over   chan struct{} // closed by End and Fail
	onHead func()
	onBody func(b []byte)

	mu sync.Mutex
	answer
}

// start begins a call on a loop with a body; hooks may be nil.
func (r *rig) start(body string, onHead func(*caller), onBody func(*caller, []byte)) *caller {
	r.t.Helper()
	c := &caller{r: r, over: make(chan struct{})}
	if onHead != nil {
		c.onHead = func() { onHead(c) }
	}
	if onBody != nil {
		c.onBody = func(b []byte) { onBody(c, b) }
	}
	r.on(func() {
		inside := true
		c.onBodyGuard(&inside)
		c.call = r.tr.Start(r.pool.Loops()[0], request(body), c)
		inside = false
	})
	return c
}

// onBodyGuard makes a callback from inside Start a failure.
func (c *caller) onBodyGuard(inside *bool) {
	head := c.onHead
	c.onHead = func() {
		if *inside {
			c.r.t.Error("Start called back")
		}
		if head != nil {
			head()
		}
	}
}

func request(body string) *upstream.Request {
	return &upstream.Request{
		Path:   "/v1/chat/completions?x=y",
		Fields: []upstream.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Authorization", Value: "Bearer k", Secret: true}},
		Body:   []byte(body),
	}
}

func (c *caller) Head(h upstream.Head) {
	c.mu.Lock()
	c.answer.Head(h)
	c.mu.Unlock()
	c.onHead()
}

func (c *caller) Body(b []byte) {
	c.mu.Lock()
	c.answer.Body(b)
	c.mu.Unlock()
	if c.onBody != nil {
		c.onBody(b)
	}
}

func (c *caller) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer.End()
	close(c.over)
}

func (c *caller) Fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answer.Fail(err)
	close(c.over)
}

// wait waits for the end of the call and gives what was heard.
func (c *caller) wait() *answer {
	c.r.t.Helper()
	await(c.r.t, c.over, "the end of a call")
	return c.heard()
}

// heard is what was heard so far.
func (c *caller) heard() *answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.answer
	if a.afterEnd || a.bodyTooEarly || a.ends > 1 || a.heads > 1 {
		c.r.t.Errorf("callbacks out of order: %v", &a)
	}
	return &a
}

// idle waits until every connection but n idle ones is gone.
func (r *rig) idle(n int64) {
	r.t.Helper()
	fdtest.Eventually(r.t, "idle connections", func() bool {
		c := r.tr.Counts()
		return c.Open == n && c.Idle == n && c.Calls == 0 && c.Paused == 0
	})
}
