package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai"
	"streaming-daemon-go/sse/stream"
)

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

// theKey must reach the upstream, and be seen nowhere else.
const theKey = "sk-do-not-show-me"

// loops is how many a rig has.
const loops = 2

// rig is the daemon's relay in front of a mock, wired as the daemon wires it. Only the web server is the test itself.
type rig struct {
	t       testing.TB
	mock    *mock.Server
	pool    *loop.Pool
	backend *openai.Backend
	server  *stream.Server
	log     *logBuffer
	base    string // of the mock

	mu     sync.Mutex
	bodies [][]byte // of requests; guarded by mu
}

// route is a way from the daemon to its upstream.
type route struct {
	name, scheme string
	h2c, noH2    bool // prior knowledge; the upstream offers none over TLS
	major        int  // of the version of HTTP that the upstream must be asked in
}

var routes = []route{
	{name: "h1", scheme: mock.Plain, major: 1},
	{name: "unix", scheme: mock.Unix, major: 1},
	{name: "h2c", scheme: mock.Plain, h2c: true, major: 2},
	{name: "h2", scheme: mock.Secure, major: 2},
}

// overRoutes runs a test over each route.
func overRoutes(t *testing.T, o openai.Options, f func(t *testing.T, r *rig)) {
	for _, to := range routes {
		t.Run(to.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			f(t, newRig(t, to, o))
		})
	}
}

func newRig(t testing.TB, to route, o openai.Options) *rig {
	t.Helper()
	r := &rig{t: t, log: &logBuffer{}}
	var err error
	r.mock, err = mock.New(mock.Config{Key: theKey, NoH2: to.noH2, Saw: func(req *http.Request, body []byte) {
		if req.ProtoMajor != to.major {
			t.Errorf("asked in %s", req.Proto)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies = append(r.bodies, body)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.mock.Close)
	addr := "127.0.0.1:0"
	if to.scheme == mock.Unix {
		addr = filepath.Join(t.TempDir(), "s")
		o.Socket = addr
	}
	if o.Base, err = r.mock.Listen(to.scheme, addr); err != nil {
		t.Fatal(err)
	}
	r.base = o.Base
	o.PriorH2, o.InsecureTLS = to.h2c, to.scheme == mock.Secure
	o.Key, o.Model = openai.NewSecret(theKey), "m-1"
	o.Log = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	// As the daemon does, for a loop keeps its P while it waits for a moment: with none to spare, each handoff took 13 ms
	// (seen) until the runtime took one back.
	before := runtime.GOMAXPROCS(0)
	runtime.GOMAXPROCS(max(before, loops+1))
	t.Cleanup(func() { runtime.GOMAXPROCS(before) })
	if r.pool, err = loop.NewPool(loops); err != nil {
		t.Fatal(err)
	}
	if r.backend, err = openai.New(o, r.pool); err != nil {
		r.pool.Close()
		t.Fatal(err)
	}
	r.server = stream.NewServer(r.pool, stream.Config{NewBackend: r.backend.Make, MaxConnections: 20_000, RejectReserve: 100,
		MaxPendingBytes: 1 << 30, Conn: conn.Config{WriteTimeout: time.Hour}, Log: o.Log})
	t.Cleanup(func() {
		r.backend.Close()
		r.pool.Close()
		if log := r.log.String(); strings.Contains(log, theKey) || strings.Contains(log, "sk-abc") {
			t.Errorf("a key is in the log:\n%s", log)
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

// payload asks for a reply by the script.
func payload(t testing.TB, script mock.Script) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"prompt": "hi there", "extra": map[string]any{"mock": script}})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// handoff passes a client with a payload to the server, as fdrecv does. The far end is the test's.
func (r *rig) handoff(payload string) *net.TCPConn {
	r.t.Helper()
	fd, far := fdtest.TCPPair(r.t)
	_ = far.SetDeadline(time.Now().Add(patience))
	p, err := fdrecv.ParsePayload([]byte(payload))
	h := fdrecv.Handoff{Client: fd, Payload: p, Err: err, ClientAddr: far.LocalAddr().(*net.TCPAddr).AddrPort()}
	done := make(chan struct{})
	err = r.pool.Loops()[0].Post(func() {
		defer close(done)
		h.AcceptedAt = r.pool.Loops()[0].Now()
		r.server.Handoff(0, h)
	})
	if err != nil {
		r.t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(patience):
		r.t.Fatal("waited in vain for the loop")
	}
	return far
}

// ask hands over a client, reads all that it gets, and gives head and body apart.
func (r *rig) ask(payload string) (head, body string) {
	r.t.Helper()
	c := r.handoff(payload)
	b, err := io.ReadAll(c)
	if err != nil {
		r.t.Fatalf("the client reads %q, then: %v", b, err)
	}
	_ = c.Close()
	head, body, ok := strings.Cut(string(b), "\r\n\r\n")
	if !ok {
		r.t.Fatalf("no head in %q", b)
	}
	if strings.Contains(string(b), theKey) || strings.Contains(string(b), "sk-abc") {
		r.t.Errorf("a key went to the client: %q", b)
	}
	return head, body
}

// events gives the events of a body as "name:data".
func events(t testing.TB, body string) (all []string) {
	t.Helper()
	var p sse.Parser
	if err := p.Feed([]byte(body), func(ev sse.Event) { all = append(all, fmt.Sprintf("%s:%s", ev.Name, ev.Data)) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// relayed is what a client in simple mode must read of a script that is whole: a piece without text is none.
func relayed(script mock.Script) (all []string) {
	for _, quoted := range script.Quoted("hi there") {
		if quoted != `""` {
			all = append(all, `:{"content":`+quoted+`}`)
		}
	}
	return append(all, `finish_reason:{"finish_reason":"stop"}`, ":[DONE]")
}

// unread adds up what has come from the mock, over TCP, and waits in the kernel to be read.
func (r *rig) unread() (total int64) {
	r.t.Helper()
	base, err := url.Parse(r.base)
	if err != nil {
		r.t.Fatal(err)
	}
	port, err := strconv.Atoi(base.Port())
	if err != nil {
		r.t.Fatal(err)
	}
	table, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		r.t.Fatal(err)
	}
	mocks, connections := fmt.Sprintf("0100007F:%04X", port), 0 // 127.0.0.1, as the kernel prints it
	for line := range strings.Lines(string(table)) {
		// proc_pid_net(5): sl local_address rem_address st tx_queue:rx_queue …; in hexadecimal
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[2] != mocks {
			continue
		}
		_, queue, _ := strings.Cut(fields[4], ":")
		n, err := strconv.ParseInt(queue, 16, 64)
		if err != nil {
			r.t.Fatalf("%q: %v", line, err)
		}
		total += n
		connections++
	}
	if open := r.backend.Counts().Upstream.Open; int64(connections) < open {
		r.t.Fatalf("%d connections to the mock are in the kernel's table, %d are open", connections, open)
	}
	return total
}

// within is fdtest.Eventually for what takes longer than that waits.
func within(t testing.TB, timeout time.Duration, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// quiet waits until no stream and no call is left, here and at the upstream.
func (r *rig) quiet() {
	r.t.Helper()
	fdtest.Eventually(r.t, "quiet", func() bool {
		c := r.backend.Counts()
		return c.Streams == 0 && c.Upstream.Calls == 0 && r.server.Counts().Connections == 0 && r.mock.Stats().Open == 0
	})
}
