package openai_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai"
	"streaming-daemon-go/sse/openai/upstreamtest"
	"streaming-daemon-go/sse/stream"
)

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

// theKey must never be seen anywhere but in the upstream's request.
const theKey = "sk-do-not-show-me"

// rig is a stream server with the backend under test, as the daemon wires them.
type rig struct {
	t       testing.TB
	pool    *loop.Pool
	backend *openai.Backend
	server  *stream.Server
	log     *logBuffer

	mu    sync.Mutex
	ended []openai.End // guarded by mu
	first []time.Duration
}

// rigOptions is what a test may change; the upstream's address is set by newRig.
type rigOptions struct {
	openai.Options
	conn      conn.Config
	heartbeat time.Duration
	loops     int
}

// newRig makes a rig in front of an upstream (nil: o says where).
func newRig(t testing.TB, s *upstreamtest.Server, o rigOptions) *rig {
	t.Helper()
	r := &rig{t: t, log: &logBuffer{}}
	if s != nil {
		o.Base = "http://" + s.Addr + "/v1"
	}
	if o.Model == "" {
		o.Model = "m"
	}
	o.Key = openai.NewSecret(theKey)
	o.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Ended = func(e openai.End) { r.mu.Lock(); r.ended = append(r.ended, e); r.mu.Unlock() }
	o.FirstByte = func(d time.Duration) { r.mu.Lock(); r.first = append(r.first, d); r.mu.Unlock() }
	before := slog.Default() // the loops log recovered panics there
	slog.SetDefault(o.Log)
	var err error
	if r.pool, err = loop.NewPool(max(1, o.loops)); err != nil {
		t.Fatal(err)
	}
	if r.backend, err = openai.New(o.Options, r.pool); err != nil {
		r.pool.Close()
		t.Fatal(err)
	}
	r.server = stream.NewServer(r.pool, stream.Config{
		NewBackend: r.backend.Make, Conn: o.conn, MaxConnections: 20000, RejectReserve: 100, MaxPendingBytes: 256 << 20,
		HeartbeatInterval: o.heartbeat, Log: o.Log,
	})
	t.Cleanup(func() {
		r.backend.Close()
		r.pool.Close()
		slog.SetDefault(before)
		if log := r.log.String(); strings.Contains(log, theKey) || strings.Contains(log, "panic") {
			t.Errorf("the key or a panic is in the log:\n%s", log)
		}
	})
	return r
}

// logBuffer takes log lines from any goroutine.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// handoff passes a client with a payload to the server, as fdrecv does. The far end is the test's.
func (r *rig) handoff(payload string) *net.TCPConn {
	r.t.Helper()
	fd, far := fdtest.TCPPair(r.t)
	_ = far.SetDeadline(time.Now().Add(patience))
	p, err := fdrecv.ParsePayload([]byte(payload))
	h := fdrecv.Handoff{Client: fd, Payload: p, Err: err, ClientAddr: far.LocalAddr().(*net.TCPAddr).AddrPort()}
	r.on(func() {
		h.AcceptedAt = r.pool.Loops()[0].Now()
		r.server.Handoff(0, h)
	})
	return far
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

// ask hands over a client, reads all that it gets, and gives head and body apart.
func (r *rig) ask(payload string) (head, body string) {
	r.t.Helper()
	return readAll(r.t, r.handoff(payload))
}

func readAll(t testing.TB, c *net.TCPConn) (head, body string) {
	t.Helper()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("the client reads %q, then: %v", b, err)
	}
	_ = c.Close()
	head, body, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok {
		t.Fatalf("no head in %q", b)
	}
	if strings.Contains(string(b), theKey) {
		t.Errorf("the key went to the client: %q", b)
	}
	return head, body
}

// events parses a body into "name:data" lines, for comparison.
func events(t testing.TB, body string) string {
	t.Helper()
	var lines []string
	var p sse.Parser
	if err := p.Feed([]byte(body), func(ev sse.Event) { lines = append(lines, fmt.Sprintf("%s:%s", ev.Name, ev.Data)) }); err != nil {
		t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

// end waits for the account of the n-th completion (from 1).
func (r *rig) end(n int) openai.End {
	r.t.Helper()
	var e openai.End
	fdtest.Eventually(r.t, "the end of a completion", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.ended) < n {
			return false
		}
		e = r.ended[n-1]
		return true
	})
	return e
}

// quiet waits until no stream and no call is left.
func (r *rig) quiet() {
	r.t.Helper()
	fdtest.Eventually(r.t, "quiet", func() bool {
		c := r.backend.Counts()
		return c.Streams == 0 && c.Upstream.Calls == 0 && c.Upstream.Open == c.Upstream.Idle && r.server.Counts().Connections == 0
	})
}

// The pieces of upstream scripts.
const (
	okHead      = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
	chunkedHead = okHead + "Transfer-Encoding: chunked\r\n\r\n"
	closeHead   = okHead + "\r\n"
	lastChunk   = "0\r\n\r\n"
	finishStop  = `data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n"
	upDone      = "data: [DONE]\n\n"
)

// textEvent is the upstream's event for a piece of text, given as a JSON string.
func textEvent(quoted string) string {
	return `data: {"id":"c","choices":[{"index":0,"delta":{"content":` + quoted + `},"finish_reason":null}]}` + "\n\n"
}

// asChunk frames bytes.
func asChunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

// reply answers every request with a response whose body is the text, in one chunk.
func reply(text string) func(*upstreamtest.Conn) {
	return func(c *upstreamtest.Conn) {
		for c.Request() != nil && c.Write(chunkedHead+asChunk(text)+lastChunk) {
		}
	}
}

const prompt = `{"prompt":"hi"}`
