package front_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse"
)

func discard(int, []byte) error { return errors.New("nobody listens") }

// A refusal to start is one line that names the flag, the address and the mend.
func TestStartRefuses(t *testing.T) {
	fdtest.NoLeaks(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct {
		addr, mend string
		cause      error
	}{
		{"", "host:port", nil},
		{"nonsense", "host:port", nil},
		{"127.0.0.1:99999", "host:port", nil},
		{taken.Addr().String(), "another process", syscall.EADDRINUSE},
		{"192.0.2.1:8080", "127.0.0.1", syscall.EADDRNOTAVAIL}, // RFC 5737: nobody's
	}
	for _, tt := range tests {
		s, err := front.Start(front.Config{Addr: tt.addr, Send: discard})
		if err == nil {
			_ = s.Shutdown(t.Context())
			t.Errorf("%q: started", tt.addr)
			continue
		}
		text := err.Error()
		if !strings.Contains(text, "-front") || !strings.Contains(text, tt.addr) || !strings.Contains(text, tt.mend) ||
			strings.Contains(text, "\n") || (tt.cause != nil && !errors.Is(err, tt.cause)) {
			t.Errorf("%q: %q", tt.addr, text)
		}
	}
}

// On every interface: the URL is one that a browser on this machine can open, other names than localhost are
// answered, and the log says that the door is open.
func TestEveryInterface(t *testing.T) {
	fdtest.NoLeaks(t)
	var l log
	s := startFront(t, front.Config{Addr: "0.0.0.0:0", Send: discard, Log: l.logger()}, front.Limits{})
	if !strings.HasPrefix(s.URL(), "http://localhost:") {
		t.Errorf("URL %q", s.URL())
	}
	_, port, _ := net.SplitHostPort(hostport(s))
	request, err := http.NewRequest("GET", "http://127.0.0.1:"+port+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "demo.example.com"
	response, err := client(t).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("%s", response.Status)
	}
	if !strings.Contains(l.String(), "level=WARN") || !strings.Contains(l.String(), "password") {
		t.Errorf("log: %s", l.String())
	}
}

// No more connections are accepted than the limit: the others wait in the kernel, whose queue is looked at, and all
// are served in the end. Handed-over clients do not count: far more than the limit go through.
func TestConnectionsAreBounded(t *testing.T) {
	fdtest.NoLeaks(t)
	const conns, clients = 2, 8
	entered, release := make(chan struct{}), make(chan struct{})
	d := newDaemon(t)
	s := startFront(t, front.Config{Send: func(fd int, payload []byte) error {
		failed := t.Context().Done() // nobody counts any more
		select {
		case entered <- struct{}{}:
		case <-failed:
		}
		select {
		case <-release:
		case <-failed:
		}
		return d.send(fd, payload)
	}}, front.Limits{Conns: conns})
	for range clients {
		fmt.Fprintf(dial(t, s), "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	for range conns {
		<-entered
	}
	fdtest.Eventually(t, "the others to wait in the backlog", func() bool { return backlog(t, s) == clients-conns })
	for i := range clients {
		release <- struct{}{}
		if i < clients-conns {
			<-entered
		}
	}
	held := make([]handed, clients)
	for i := range held {
		held[i] = d.next(t)
	}
	for i := range held {
		if err := held[i].fd.Close(); err != nil {
			t.Error(err)
		}
	}
}

// backlog is how many clients wait to be accepted: the receive queue of the listening socket (proc(5), /proc/net/tcp).
func backlog(t testing.TB, s *front.Server) int {
	t.Helper()
	_, port, err := net.SplitHostPort(hostport(s))
	if err != nil {
		t.Fatal(err)
	}
	var p int
	if _, err := fmt.Sscan(port, &p); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	local := fmt.Sprintf("0100007F:%04X", p)
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && fields[1] == local && fields[3] == "0A" { // TCP_LISTEN
			var n int
			if _, err := fmt.Sscanf(fields[4][strings.IndexByte(fields[4], ':')+1:], "%x", &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("%s is not in /proc/net/tcp", local)
	return 0
}

// P-16: what is handed over carries HTTP/1.1. A client that speaks HTTP/2 from its first byte on gets neither the page
// nor a handoff.
func TestNoHTTP2(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: func(int, []byte) error {
		t.Error("a connection with HTTP/2 inside was handed over")
		return nil
	}}, front.Limits{})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	c := http.Client{Transport: transport, Timeout: patience}
	for _, path := range []string{"", "stream?prompt=x"} {
		if response, err := c.Get(s.URL() + path); err == nil {
			_ = response.Body.Close()
			t.Errorf("/%s: %s over %s", path, response.Status, response.Proto)
		}
	}
}

// A client that never finishes its request head is cut, long before the timeout of a whole request (10 s).
func TestSlowHead(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{HeaderRead: 20 * time.Millisecond})
	c := dial(t, s)
	start := time.Now()
	fmt.Fprintf(c, "GET /stream HTTP/1.1\r\nHost: loc")
	if got := readAll(t, c); strings.Contains(got, " 200 ") {
		t.Errorf("read %q", got)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("cut after %v", took)
	}
}

// The longest prompt that the page allows fits a GET; a head far longer is refused.
func TestHeadIsBounded(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{})
	for _, tt := range []struct{ repeat, status int }{{4000, 503}, {16000, 431}} { // 503: it reached discard
		response, err := client(t).Get(s.URL() + "stream?prompt=" + strings.Repeat("%E6%97%A5", tt.repeat))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%d characters: %s, want %d", tt.repeat, response.Status, tt.status)
		}
	}
}

// Shutdown refuses new clients at once, cuts one that has asked for nothing, waits for the handoff under way even
// when its context is done, and leaves the handed-over client streaming.
func TestShutdown(t *testing.T) {
	fdtest.NoLeaks(t)
	entered, release := make(chan struct{}), make(chan struct{})
	d := newDaemon(t)
	s, err := front.StartLimited(front.Config{Addr: "127.0.0.1:0", Send: func(fd int, payload []byte) error {
		close(entered)
		<-release
		return d.send(fd, payload)
	}}, front.Limits{HeaderRead: 2 * patience}) // not what cuts the spare connection
	if err != nil {
		t.Fatal(err)
	}
	spare, c := dial(t, s), dial(t, s)
	fmt.Fprintf(c, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(ctx) }()
	fdtest.Eventually(t, "new clients to be refused", func() bool {
		c, err := net.Dial("tcp", hostport(s))
		if err == nil {
			_ = c.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
	if got := readAll(t, spare); got != "" {
		t.Errorf("the spare connection read %q", got)
	}
	select {
	case err := <-ended:
		t.Fatalf("shutdown did not wait for the handoff: %v", err)
	default:
	}
	close(release)
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("shutdown: %v", err)
	}
	if err := s.Shutdown(context.Background()); !errors.Is(err, context.Canceled) {
		t.Errorf("the second call: %v, want the error of the first", err)
	}
	h := d.next(t)
	if err := h.write(append(h.head(), sse.Done...)); err != nil {
		t.Fatal(err)
	}
	_ = h.fd.Close()
	if got := readAll(t, c); !strings.HasSuffix(got, sse.Done) {
		t.Errorf("the client read %q", got)
	}
}

// A Send that breaks its promise and does not return: Shutdown says so instead of hanging.
func TestShutdownWithSendThatHangs(t *testing.T) {
	fdtest.NoLeaks(t)
	entered, release := make(chan struct{}), make(chan struct{})
	s, err := front.StartLimited(front.Config{Addr: "127.0.0.1:0", Send: func(int, []byte) error {
		close(entered)
		<-release
		return nil
	}}, front.Limits{SendGrace: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(dial(t, s), "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	<-entered
	if err := s.Shutdown(t.Context()); err == nil || !strings.Contains(err.Error(), "still runs") {
		t.Errorf("shutdown: %v", err)
	}
	close(release)
}
