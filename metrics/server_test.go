package metrics_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/metrics"
	"streaming-daemon-go/metrics/endpoint"
)

// patience bounds every wait for something that must happen; no test waits it
// out when all is well.
const patience = 10 * time.Second

// lines is a log that two goroutines may write.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// serve starts a server on a free port of loopback, shut down with the test.
func serve(t *testing.T, h http.Handler, log *slog.Logger, short metrics.ShortLimits) *endpoint.Server {
	t.Helper()
	s, err := metrics.ListenShort("127.0.0.1:0", h, log, short)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(t, s) })
	return s
}

// stop shuts s down and gives a request that still runs no time at all.
func stop(t *testing.T, s *endpoint.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
}

// dial connects; every read and write on the connection ends within patience.
func dial(t *testing.T, s *endpoint.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// exchange sends raw on a new connection and reads one response.
func exchange(t *testing.T, s *endpoint.Server, raw string) (*http.Response, string) {
	t.Helper()
	c := dial(t, s)
	go io.WriteString(c, raw) // the server may answer before it has read all
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func get(t *testing.T, s *endpoint.Server, path string) (status int, body string) {
	t.Helper()
	res, body := exchange(t, s, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	return res.StatusCode, body
}

func TestListenServes(t *testing.T) {
	s, err := metrics.Listen("127.0.0.1:0", metrics.New(metrics.Build{}, fixed(busy())).Handler(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	status, page := get(t, s, "/metrics")
	if families, err := parsePage([]byte(page)); status != 200 || err != nil || families["daemon_active_connections"] == nil {
		t.Errorf("status %d, %v:\n%s", status, err, page)
	}
	p, err := metrics.ListenPprof("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, p)
	if status, _ := get(t, p, "/debug/pprof/heap?debug=1"); status != 200 {
		t.Errorf("pprof: %d", status)
	}
}

// A refusal to start is one line that names the flag, the address and the
// mend, and can be tested by its cause.
func TestListenErrors(t *testing.T) {
	taken := serve(t, http.NotFoundHandler(), nil, metrics.ShortLimits{}).Addr().String()
	tests := []struct {
		name, addr string
		cause      error  // nil: any
		mend       string // in the text
	}{
		{"in use", taken, syscall.EADDRINUSE, "choose another port"},
		{"not ours", "192.0.2.1:9090", syscall.EADDRNOTAVAIL, "use 127.0.0.1"}, // TEST-NET-1, RFC 5737
		{"no port", "127.0.0.1", nil, "127.0.0.1:9090"},
		{"no number", "127.0.0.1:999999", nil, "127.0.0.1:9090"},
		{"empty", "", nil, "127.0.0.1:9090"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for flag, listen := range map[string]func() (*endpoint.Server, error){
				"-metrics-addr": func() (*endpoint.Server, error) { return metrics.Listen(tt.addr, http.NotFoundHandler(), nil) },
				"-pprof-addr":   func() (*endpoint.Server, error) { return metrics.ListenPprof(tt.addr, nil) },
			} {
				before := openSockets(t)
				s, err := listen()
				if err == nil {
					stop(t, s)
					t.Fatalf("%s listens on %v", flag, s.Addr())
				}
				if tt.cause != nil && !errors.Is(err, tt.cause) {
					t.Errorf("%v is not %v", err, tt.cause)
				}
				for _, part := range []string{flag, tt.addr, tt.mend} {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%q does not say %q", err, part)
					}
				}
				if strings.Contains(err.Error(), "\n") {
					t.Errorf("more than one line: %q", err)
				}
				if after := openSockets(t); after != before {
					t.Errorf("%d sockets before, %d after", before, after)
				}
			}
		})
	}
}

// readBody answers with what reading the body gave.
var readBody = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	var tooLarge *http.MaxBytesError
	fmt.Fprintf(w, "%d bytes, cut: %v", n, errors.As(err, &tooLarge))
})

func TestRequestLimits(t *testing.T) {
	const limit = 64 << 10
	s := serve(t, readBody, nil, metrics.ShortLimits{})
	post := func(head string, body string) string {
		return "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + "\r\n\r\n" + body
	}
	chunked := func(n int) string {
		return post("Transfer-Encoding: chunked", fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", n, strings.Repeat("x", n)))
	}
	tests := []struct {
		name, raw string
		status    int
		body      string
	}{
		{"a large header", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 15<<10) + "\r\n\r\n", 200, ""},
		{"an oversized header", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 21<<10) + "\r\n\r\n", 431, ""},
		{"a body at the limit", post(fmt.Sprint("Content-Length: ", limit), strings.Repeat("x", limit)), 200, "65536 bytes, cut: false"},
		{"a body announced too large", post("Content-Length: 65537", ""), 413, "too large"},
		{"chunked, at the limit", chunked(limit), 200, "65536 bytes, cut: false"},
		{"chunked, too large", chunked(limit + 1), 200, "65536 bytes, cut: true"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, body := exchange(t, s, tt.raw)
			if res.StatusCode != tt.status || !strings.Contains(body, tt.body) {
				t.Errorf("%d %q, want %d %q", res.StatusCode, body, tt.status, tt.body)
			}
			if tt.status >= 400 && !res.Close {
				t.Error("connection stays open")
			}
		})
	}
}

// A client that stalls, in whatever part of an exchange, is closed after the
// timeout of that part. The other timeouts are as shipped: longer than
// patience, or long enough to be told from the 50 ms of the row.
func TestStalledClientsAreClosed(t *testing.T) {
	const short = 50 * time.Millisecond
	const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"
	tests := []struct {
		name   string
		limits metrics.ShortLimits
		sent   string
		want   string // in what comes back before the end
	}{
		{"half a header", metrics.ShortLimits{HeaderRead: short}, "GET / HTTP/1.1\r\nHost:", ""},
		{"nothing", metrics.ShortLimits{HeaderRead: short}, "", ""},
		{"half a body", metrics.ShortLimits{Read: short}, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf", "4 bytes"},
		{"no second request", metrics.ShortLimits{Idle: short}, request, "0 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, readBody, nil, tt.limits)
			c := dial(t, s)
			io.WriteString(c, tt.sent)
			began := time.Now()
			got, err := io.ReadAll(c)
			if err != nil {
				t.Errorf("not closed by the server: %v", err)
			}
			if !strings.Contains(string(got), tt.want) {
				t.Errorf("%q without %q", got, tt.want)
			}
			if took := time.Since(began); took > 4*time.Second { // the shortest as shipped: 5 s
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// A client that does not read its answer holds the handler no longer than the
// write timeout.
func TestStalledReaderIsCut(t *testing.T) {
	failed := make(chan error, 1)
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for err == nil { // more than the kernel's buffers hold
			_, err = w.Write(make([]byte, 64<<10))
		}
		failed <- err
	}), nil, metrics.ShortLimits{Write: 50 * time.Millisecond})
	io.WriteString(dial(t, s), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	select {
	case err := <-failed:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write ended with %v", err)
		}
	case <-time.After(patience):
		t.Error("the handler still writes")
	}
}

// With every slot taken a further client waits, and is served as soon as one
// leaves.
func TestConnectionsAreBounded(t *testing.T) {
	const conns = 2
	inside := make(chan string, conns+1) // who is in the handler
	leave := make(chan struct{})
	s := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		inside <- r.URL.Path
		<-leave
	}), nil, metrics.ShortLimits{Conns: conns})
	ask := func(path string) net.Conn {
		c := dial(t, s)
		io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		return c
	}
	ask("/1")
	ask("/2")
	first := []string{<-inside, <-inside}
	slices.Sort(first)
	if !slices.Equal(first, []string{"/1", "/2"}) {
		t.Fatalf("inside: %v", first)
	}
	before := openSockets(t)
	third := ask("/3")
	// The kernel has connected the third client; the server holds no
	// descriptor for it: one more socket is open in this process, not two.
	third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := third.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("third client: %d bytes, %v", n, err)
	}
	if after := openSockets(t); after != before+1 {
		t.Errorf("%d sockets, with the third client %d", before, after)
	}
	third.SetReadDeadline(time.Now().Add(patience))
	close(leave)
	if got, err := io.ReadAll(third); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 200 ")) {
		t.Errorf("third client: %q, %v", got, err)
	}
}

// Goal: Shutdown leaves no descriptor at once, and no goroutine. Method: count
// both around servers in every state that a connection can be in.
func TestShutdownLeavesNothing(t *testing.T) {
	tests := []struct {
		name    string
		clients int  // connections that use opens
		cut     bool // Shutdown has to cut a request
		use     func(t *testing.T, s *endpoint.Server, busy <-chan struct{})
	}{
		{"unused", 0, false, func(*testing.T, *endpoint.Server, <-chan struct{}) {}},
		{"idle connection", 1, false, func(t *testing.T, s *endpoint.Server, _ <-chan struct{}) {
			c := dial(t, s)
			io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
				t.Fatal(err)
			}
		}},
		{"running request", 1, true, func(t *testing.T, s *endpoint.Server, busy <-chan struct{}) {
			io.WriteString(dial(t, s), "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
			<-busy
		}},
		{"every slot taken, one more waits", 3, true, func(t *testing.T, s *endpoint.Server, busy <-chan struct{}) {
			for range 3 {
				io.WriteString(dial(t, s), "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
			}
			<-busy
			<-busy
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			goroutines, sockets := runtime.NumGoroutine(), openSockets(t)
			busyNow := make(chan struct{}, 3)
			s, err := metrics.ListenShort("127.0.0.1:0", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/wait" {
					busyNow <- struct{}{}
					<-r.Context().Done()
				}
			}), nil, metrics.ShortLimits{Conns: 2})
			if err != nil {
				t.Fatal(err)
			}
			addr := s.Addr().String()
			t.Run("use", func(t *testing.T) { // the clients close with this subtest
				tt.use(t, s, busyNow)
				ctx, cancel := context.WithCancel(t.Context())
				if tt.cut {
					cancel()
				}
				defer cancel()
				err := s.Shutdown(ctx)
				if got := errors.Is(err, context.Canceled); got != tt.cut || err != nil && !got {
					t.Errorf("shutdown: %v", err)
				}
				if left := openSockets(t) - sockets; left != tt.clients {
					t.Errorf("%d sockets are left, want only the %d of the clients", left, tt.clients)
				}
				if again := s.Shutdown(context.Background()); !errors.Is(again, err) {
					t.Errorf("second shutdown: %v, the first: %v", again, err)
				}
			})
			if c, err := net.Dial("tcp", addr); err == nil {
				c.Close()
				t.Error("still listens")
			}
			await(t, "goroutines gone", func() bool { return runtime.NumGoroutine() <= goroutines })
		})
	}
}

// A request in flight is answered in full before Shutdown returns.
func TestShutdownLetsRequestsEnd(t *testing.T) {
	inside, answer := make(chan struct{}), make(chan struct{})
	s := serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(inside)
		<-answer
		io.WriteString(w, "whole")
	}), nil, metrics.ShortLimits{})
	c := dial(t, s)
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-inside
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	await(t, "listener closed", func() bool {
		probe, err := net.Dial("tcp", s.Addr().String())
		if err == nil {
			probe.Close()
		}
		return err != nil
	})
	select {
	case err := <-done:
		t.Fatalf("returned with a request in flight: %v", err)
	default:
	}
	close(answer)
	got, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(got), "whole") {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

// A handler that ignores its context cannot hold the daemon back: Shutdown
// says so and returns.
func TestShutdownDoesNotWaitForEver(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	s, err := metrics.ListenShort("127.0.0.1:0", http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(inside)
		<-release
	}), nil, metrics.ShortLimits{})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(dial(t, s), "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err = s.Shutdown(ctx)
	close(release)
	if !errors.Is(err, context.Canceled) || !strings.Contains(fmt.Sprint(err), "still runs") {
		t.Errorf("shutdown: %v", err)
	}
}

// openSockets counts the sockets of this process: not all descriptors, since
// the runtime opens its epoll and event descriptors once and for good.
func openSockets(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range entries {
		if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.HasPrefix(target, "socket:") {
			n++
		}
	}
	return n
}

// await waits until ok holds, for what has no channel to wait on: the end of
// a goroutine, or a listener's.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<16)
			t.Fatalf("never: %s\n%s", what, stacks[:runtime.Stack(stacks, true)])
		}
	}
}
