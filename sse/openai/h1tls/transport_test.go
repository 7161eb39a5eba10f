package h1tls_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/h1tls"
	"streaming-daemon-go/sse/openai/h2"
	"streaming-daemon-go/sse/openai/upstream"
)

// TestMain gives workers and servers a P beside those that waiting loops keep, as the daemon does.
func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	os.Exit(m.Run())
}

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

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

// rig is a loop and a transport on it, which must leave nothing behind.
type rig struct {
	t    testing.TB
	loop *loop.Loop
	tr   upstream.Transport
}

func newRig(t testing.TB, build func(*loop.Pool) (upstream.Transport, error)) *rig {
	t.Helper()
	pool, err := loop.NewPool(1)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := build(pool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close(); pool.Close() })
	return &rig{t, pool.Loops()[0], tr}
}

func direct(cfg h1tls.Config) func(*loop.Pool) (upstream.Transport, error) {
	return func(p *loop.Pool) (upstream.Transport, error) { return h1tls.New(p, cfg) }
}

func (r *rig) on(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.loop.Post(func() { defer close(done); f() }); err != nil {
		r.t.Fatal(err)
	}
	await(r.t, done, "the loop")
}

// caller is the receiver of one call.
type caller struct {
	r        *rig
	call     upstream.Call
	head     chan upstream.Head
	over     chan error
	onBody   func(*caller, []byte)
	received atomic.Int64

	mu   sync.Mutex
	body []byte
	ends int
}

func (r *rig) start(body string, onBody func(*caller, []byte)) *caller {
	r.t.Helper()
	c := &caller{r: r, head: make(chan upstream.Head, 1), over: make(chan error, 1), onBody: onBody}
	req := &upstream.Request{Path: "/v1?x=y", Fields: []upstream.Field{{Name: "Authorization", Value: "Bearer k", Secret: true}}, Body: []byte(body)}
	r.on(func() { c.call = r.tr.Start(r.loop, req, c) })
	return c
}

func (c *caller) Head(h upstream.Head) {
	h.ContentType = append([]byte(nil), h.ContentType...)
	c.head <- h
}

func (c *caller) Body(b []byte) {
	c.mu.Lock()
	c.body = append(c.body, b...)
	c.mu.Unlock()
	c.received.Add(int64(len(b)))
	if c.onBody != nil {
		c.onBody(c, b)
	}
}

func (c *caller) End()           { c.Fail(nil) }
func (c *caller) Fail(err error) { c.ends++; c.over <- err }

func (c *caller) mustComplete(status int, body string) {
	c.r.t.Helper()
	if err := await(c.r.t, c.over, "the end of a call"); err != nil {
		c.r.t.Fatal(err)
	}
	h := await(c.r.t, c.head, "the head")
	if h.Status != status || string(c.body) != body {
		c.r.t.Fatalf("status %d, %d bytes: %.80q", h.Status, len(c.body), c.body)
	}
}

func (c *caller) mustFail(want error) {
	c.r.t.Helper()
	err := await(c.r.t, c.over, "the end of a call")
	if !errors.Is(err, want) {
		c.r.t.Fatalf("%v; want %v", err, want)
	}
	if strings.Contains(err.Error(), "SECRET") {
		c.r.t.Errorf("the error quotes: %v", err)
	}
}

// server is net/http's over TLS without HTTP/2.
func server(t testing.TB, handler http.HandlerFunc) h1tls.Config {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	host, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	n, _ := strconv.Atoi(port)
	return h1tls.Config{Target: upstream.Target{TLS: true, Host: host, Port: n}, RootCAs: roots}
}

func flush(w http.ResponseWriter) { w.(http.Flusher).Flush() }

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Header.Get("Authorization") != "Bearer k" || r.Header.Get("Accept-Encoding") != "identity" || r.RequestURI != "/v1?x=y" {
		w.WriteHeader(http.StatusTeapot)
	}
	_, _ = w.Write(body)
}

// TestCalls: whole calls, one after the other, on one connection.
func TestCalls(t *testing.T) {
	fdtest.NoLeaks(t)
	r := newRig(t, direct(server(t, echo)))
	for _, body := range []string{"hello", "", strings.Repeat("0123456789", 100000)} {
		r.start(body, nil).mustComplete(200, body)
		fdtest.Eventually(t, "the connection to be idle", func() bool { return r.tr.Counts().Idle == 1 })
	}
	if c := r.tr.Counts(); c.Open != 1 || c.Dials != 1 || c.Reused != 2 || c.Calls != 0 || c.BytesIn != 1000005 {
		t.Errorf("%+v", c)
	}
}

// TestBounded: calls past the limit wait for others to end; those that were cancelled meanwhile are never sent.
func TestBounded(t *testing.T) {
	fdtest.NoLeaks(t)
	var now, most, served atomic.Int64
	on := make(chan struct{})
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		served.Add(1)
		<-on
		now.Add(-1)
		echo(w, r)
	})
	cfg.CallsMax = 3
	r := newRig(t, direct(cfg))
	var calls []*caller
	for range 12 {
		calls = append(calls, r.start("x", nil))
	}
	fdtest.Eventually(t, "the first calls", func() bool { return now.Load() == 3 })
	r.on(func() { calls[10].call.Cancel(); calls[11].call.Cancel() })
	close(on)
	for _, c := range calls[:10] {
		c.mustComplete(200, "x")
	}
	if most.Load() > 3 || served.Load() != 10 || r.tr.Counts().Calls != 0 {
		t.Errorf("%d at a time, %d in all, %+v", most.Load(), served.Load(), r.tr.Counts())
	}
}

// TestPause: a paused call reads one piece and no more. What the kernel holds of it is not counted here.
func TestPause(t *testing.T) {
	fdtest.NoLeaks(t)
	const size = 4 << 20
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, size)) })
	r := newRig(t, direct(cfg))
	c := r.start("", func(c *caller, _ []byte) { c.call.Pause() })
	fdtest.Eventually(t, "a piece", func() bool { return c.received.Load() > 0 })
	for steps := 1; steps <= 5; steps++ { // each Resume lets one more piece in, since each piece pauses again
		before := c.received.Load()
		r.on(c.call.Resume)
		fdtest.Eventually(t, "the next piece", func() bool { return c.received.Load() > before })
		if got := c.received.Load(); got-before > 16<<10 {
			t.Fatalf("%d bytes came to a paused call", got-before)
		}
	}
	if n := r.tr.Counts().Paused; n != 1 {
		t.Errorf("%d paused", n)
	}
	r.on(func() { c.onBody = nil; c.call.Resume() })
	c.mustComplete(200, string(make([]byte, size)))
}

// TestCancel: the server hears of it within 50 ms; a released call's short rest is read instead, and its connection kept.
func TestCancel(t *testing.T) {
	fdtest.NoLeaks(t)
	gone := make(chan time.Time, 1)
	more := make(chan struct{})
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "[DONE]")
		flush(w)
		if string(body) == "release" {
			<-more
			_, _ = io.WriteString(w, "\n\n")
			return
		}
		<-r.Context().Done()
		gone <- time.Now()
	})
	r := newRig(t, direct(cfg))
	c := r.start("release", func(c *caller, _ []byte) { c.call.Release() })
	fdtest.Eventually(t, "the release", func() bool { return r.tr.Counts().Calls == 0 })
	close(more)
	fdtest.Eventually(t, "the connection to be idle", func() bool { n := r.tr.Counts(); return n.Open == 1 && n.Idle == 1 })
	if len(c.over) != 0 || string(c.body) != "[DONE]" {
		t.Error("a released call heard more")
	}
	c = r.start("cancel", nil)
	await(t, c.head, "the head")
	var at time.Time
	r.on(func() { at = time.Now(); c.call.Cancel() })
	if d := await(t, gone, "the server to hear of it").Sub(at); d > 50*time.Millisecond && !raceEnabled {
		t.Errorf("the server heard of it after %v", d)
	}
	if len(c.over) != 0 || r.tr.Counts().Dials != 1 {
		t.Errorf("%+v", r.tr.Counts())
	}
	r.start("release", func(c *caller, _ []byte) { c.call.Cancel() })
	fdtest.Eventually(t, "no connection", func() bool { return r.tr.Counts().Open == 0 })
}

// TestFailures: how each ends, and that no error quotes what came.
func TestFailures(t *testing.T) {
	raw := func(reply string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, reply)
			_ = c.Close()
		}
	}
	tests := []struct {
		name    string
		handler http.HandlerFunc
		change  func(*h1tls.Config)
		err     error
	}{
		{"not HTTP", raw("SECRET\r\n\r\n"), nil, upstream.ErrProtocol},
		{"no answer", raw(""), nil, upstream.ErrBroken},
		{"half a head", raw("HTTP/1.1 200 OK\r\nX: SEC"), nil, upstream.ErrBroken},
		{"half a body", raw("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nSECRET"), nil, upstream.ErrBroken},
		{"bad chunk", raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nSECRET\r\n"), nil, upstream.ErrProtocol},
		{"content coding", raw("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nSECRET"), nil, upstream.ErrProtocol},
		{"head too large", raw("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("SECRET", 20000) + "\r\n\r\n"), nil, upstream.ErrProtocol},
		{"certificate", echo, func(c *h1tls.Config) { c.RootCAs = nil }, upstream.ErrTLS},
		{"nobody listens", echo, func(c *h1tls.Config) { c.Target.Port = 1 }, upstream.ErrConnect},
		{"panic", echo, nil, upstream.ErrPanic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			cfg := server(t, tt.handler)
			if tt.change != nil {
				tt.change(&cfg)
			}
			r := newRig(t, direct(cfg))
			var onBody func(*caller, []byte)
			if tt.name == "panic" {
				onBody = func(*caller, []byte) { panic("of the test") }
			}
			c := r.start("body", onBody)
			c.mustFail(tt.err)
			fdtest.Eventually(t, "nothing to be left", func() bool { n := r.tr.Counts(); return n.Open == n.Idle && n.Calls == 0 })
		})
	}
}

// TestStale: a kept connection that its server ends when the next request comes costs a second attempt.
func TestStale(t *testing.T) {
	fdtest.NoLeaks(t)
	var served atomic.Int64
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) != 2 {
			echo(w, r)
			return
		}
		c, _, _ := w.(http.Hijacker).Hijack()
		_ = c.Close()
	})
	r := newRig(t, direct(cfg))
	r.start("one", nil).mustComplete(200, "one")
	fdtest.Eventually(t, "the connection to be idle", func() bool { return r.tr.Counts().Idle == 1 })
	r.start("two", nil).mustComplete(200, "two")
	if c := r.tr.Counts(); c.Retried != 1 || c.Dials != 2 || served.Load() != 3 {
		t.Errorf("%+v, %d requests", c, served.Load())
	}
}

// TestClose: calls under way and those that wait fail; what is started after it does too.
func TestClose(t *testing.T) {
	fdtest.NoLeaks(t)
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) { flush(w); <-r.Context().Done() })
	cfg.CallsMax = 1
	r := newRig(t, direct(cfg))
	first, second := r.start("", nil), r.start("", nil)
	await(t, first.head, "the head")
	r.tr.Close()
	first.mustFail(upstream.ErrClosed)
	second.mustFail(upstream.ErrClosed)
	r.start("", nil).mustFail(upstream.ErrClosed)
}

// TestFallback: a server that offers no HTTP/2 is left to this package, calls in a burst and later ones, paused and
// cancelled ones included.
func TestFallback(t *testing.T) {
	fdtest.NoLeaks(t)
	cfg := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 {
			t.Errorf("it came over %s", r.Proto)
		}
		echo(w, r)
	})
	r := newRig(t, func(p *loop.Pool) (upstream.Transport, error) {
		fallback, err := h1tls.New(p, cfg)
		if err != nil {
			return nil, err
		}
		return h2.New(p, h2.Config{Target: cfg.Target, RootCAs: cfg.RootCAs, Fallback: fallback})
	})
	var calls []*caller
	for i := range 20 {
		calls = append(calls, r.start(fmt.Sprint(i), nil))
	}
	r.on(func() { calls[0].call.Pause(); calls[1].call.Cancel() })
	r.on(func() { calls[0].call.Resume() })
	for i, c := range calls {
		if i != 1 {
			c.mustComplete(200, fmt.Sprint(i))
		}
	}
	dials := r.tr.Counts().Dials
	r.start("later", nil).mustComplete(200, "later")
	if c := r.tr.Counts(); c.Calls != 0 || c.Paused != 0 || c.Dials > dials+1 {
		t.Errorf("%+v", c)
	}
	without := newRig(t, func(p *loop.Pool) (upstream.Transport, error) {
		return h2.New(p, h2.Config{Target: cfg.Target, RootCAs: cfg.RootCAs})
	})
	without.start("", nil).mustFail(upstream.ErrTLS)
}
