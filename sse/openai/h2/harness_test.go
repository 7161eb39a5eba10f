package h2_test

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/h2"
	"streaming-daemon-go/sse/openai/upstream"
)

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

// rig is a pool of loops and a transport to one target.
type rig struct {
	t    testing.TB
	pool *loop.Pool
	tr   *h2.Transport
}

// newRig makes a rig of some loops that must leave nothing behind. The upstream is to be started before it.
func newRig(t testing.TB, loops int, cfg h2.Config) *rig {
	t.Helper()
	pool, err := loop.NewPool(loops)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := h2.New(pool, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tr.Close()
		pool.Close()
	})
	return &rig{t: t, pool: pool, tr: tr}
}

// on runs f on a loop and waits for it.
func (r *rig) on(loop int, f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.pool.Loops()[loop].Post(func() { defer close(done); f() }); err != nil {
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

// caller is the receiver of one call. The hooks run on its loop.
type caller struct {
	r      *rig
	loop   int
	call   upstream.Call
	began  chan struct{} // closed by Head
	over   chan struct{} // closed by End and Fail
	onHead func(*caller)
	onBody func(*caller, []byte)

	inside bool // Start has not returned; owned by the loop
	mu     sync.Mutex
	answer
}

// answer is what was heard.
type answer struct {
	heads, ends, pieces int
	status              int
	contentType, retry  string
	body                []byte
	err                 error
	wrong               string // what broke the contract
}

func (a *answer) String() string {
	return fmt.Sprintf("%d heads, status %d, type %q, retry %q, %d bytes %.100q, %d ends, error %v, %s",
		a.heads, a.status, a.contentType, a.retry, len(a.body), a.body, a.ends, a.err, a.wrong)
}

type option func(*caller)

func onHead(f func(*caller)) option         { return func(c *caller) { c.onHead = f } }
func onBody(f func(*caller, []byte)) option { return func(c *caller) { c.onBody = f } }
func onLoop(i int) option                   { return func(c *caller) { c.loop = i } }

// start begins a call with a body.
func (r *rig) start(body string, options ...option) *caller {
	r.t.Helper()
	return r.startRequest(request(body), options...)
}

func (r *rig) startRequest(req *upstream.Request, options ...option) *caller {
	r.t.Helper()
	c := &caller{r: r, began: make(chan struct{}), over: make(chan struct{})}
	for _, o := range options {
		o(c)
	}
	r.on(c.loop, func() {
		c.inside = true
		c.call = r.tr.Start(r.pool.Loops()[c.loop], req, c)
		c.inside = false
	})
	return c
}

func request(body string) *upstream.Request {
	return &upstream.Request{
		Path:   "/v1/chat/completions?x=y",
		Fields: []upstream.Field{{Name: "Content-Type", Value: "application/json"}, {Name: "Authorization", Value: "Bearer k", Secret: true}},
		Body:   []byte(body),
	}
}

// heard checks what holds for every callback. c.mu is held.
func (c *caller) heard() {
	if c.inside || c.ends > 0 {
		c.wrong = fmt.Sprintf("a callback: inside Start: %v, after %d ends", c.inside, c.ends)
	}
}

func (c *caller) Head(h upstream.Head) {
	c.mu.Lock()
	c.heard()
	c.heads++
	c.status, c.contentType, c.retry = h.Status, string(h.ContentType), string(h.RetryAfter)
	c.mu.Unlock()
	close(c.began)
	if c.onHead != nil {
		c.onHead(c)
	}
}

func (c *caller) Body(b []byte) {
	c.mu.Lock()
	c.heard()
	if c.heads != 1 || len(b) == 0 || len(b) > 64<<10 {
		c.wrong = fmt.Sprintf("a body of %d bytes after %d heads", len(b), c.heads)
	}
	c.pieces++
	c.body = append(c.body, b...)
	c.mu.Unlock()
	if c.onBody != nil {
		c.onBody(c, b)
	}
}

func (c *caller) End() { c.finish(nil) }

func (c *caller) Fail(err error) { c.finish(err) }

func (c *caller) finish(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard()
	c.ends++
	c.err = err
	if c.ends == 1 {
		close(c.over)
	}
}

// wait waits for the end of the call and gives what was heard.
func (c *caller) wait() *answer {
	c.r.t.Helper()
	await(c.r.t, c.over, "the end of a call")
	return c.now()
}

// now is what was heard so far.
func (c *caller) now() *answer {
	c.r.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.answer
	if a.wrong != "" || a.heads > 1 {
		c.r.t.Errorf("callbacks out of order: %v", &a)
	}
	return &a
}

func mustComplete(t testing.TB, a *answer, body string) {
	t.Helper()
	if a.err != nil || a.status != 200 || string(a.body) != body {
		t.Fatalf("%v; want body %.100q", a, body)
	}
}

// settled waits until the transport has so many connections, all idle.
func (r *rig) settled(conns int64) {
	r.t.Helper()
	fdtest.Eventually(r.t, fmt.Sprintf("%d idle connections", conns), func() bool {
		c := r.tr.Counts()
		return c.Open == conns && c.Idle == conns && c.Calls == 0 && c.Paused == 0
	})
}

// netServer is net/http's own HTTP/2 server, over TLS. It gives the configuration of a transport to it.
func netServer(t testing.TB, handler http.HandlerFunc, change ...func(*httptest.Server)) h2.Config {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = quiet
	for _, f := range change {
		f(s)
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return h2.Config{Target: targetOf(t, s.Listener.Addr()), RootCAs: roots(s.Certificate())}
}

func targetOf(t testing.TB, a net.Addr) upstream.Target {
	t.Helper()
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	return upstream.Target{TLS: true, Host: host, Port: n}
}

func roots(c *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return pool
}
