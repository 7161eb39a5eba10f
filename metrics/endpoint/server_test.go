package endpoint_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/metrics/endpoint"
)

const patience = 10 * time.Second

var limits = endpoint.Limits{
	HeaderRead: patience, Read: patience, Write: patience, Idle: patience, HeaderBytes: 16 << 10, Conns: 1,
	Patience: time.Millisecond, Grace: time.Millisecond,
}

// start serves h on a free port with room for one connection.
func start(t *testing.T, lim endpoint.Limits, h http.HandlerFunc) *endpoint.Server {
	t.Helper()
	ln, err := endpoint.Listen("endpoint", "-addr", "127.0.0.1:0", "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s := endpoint.New(ln, endpoint.Config{Name: "endpoint", Limits: lim, Handler: h})
	s.Start()
	return s
}

// ask sends a request on a connection of its own.
func ask(t *testing.T, s *endpoint.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return c
}

// Goal: a hijacked connection keeps its slot until it is given back. Method: room for one; the first client's
// connection is hijacked, the second is accepted only after GiveBack, and Shutdown waits for that one's.
func TestHijackedKeepsItsSlot(t *testing.T) {
	hijacked := make(chan net.Conn, 2)
	lim := limits
	lim.Patience = patience
	s := start(t, lim, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
		}
		hijacked <- c
	})
	ask(t, s)
	first := <-hijacked
	_ = first.Close() // gone for the client, and still counted
	ask(t, s)
	select {
	case <-hijacked:
		t.Fatal("accepted beyond the limit")
	case <-time.After(50 * time.Millisecond):
	}
	s.GiveBack()
	second := <-hijacked
	ended := make(chan error)
	go func() { ended <- s.Shutdown(t.Context()) }()
	select {
	case err := <-ended:
		t.Fatalf("the end did not wait for a hijacked connection: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	_ = second.Close()
	s.GiveBack()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Limits.Patience ends the wait for a request that runs: it is cut, hears of it, and the end is a clean one.
func TestPatience(t *testing.T) {
	inside := make(chan struct{})
	lim := limits
	lim.Grace = patience
	s := start(t, lim, func(_ http.ResponseWriter, r *http.Request) {
		close(inside)
		<-r.Context().Done()
	})
	c := ask(t, s)
	<-inside
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		t.Error("a request that was cut has an answer")
	}
}

// A handler that does not end is named, with the package whose it is.
func TestBusy(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	s := start(t, limits, func(http.ResponseWriter, *http.Request) {
		close(inside)
		<-release
	})
	ask(t, s)
	<-inside
	err := s.Shutdown(t.Context())
	if err == nil || !strings.HasPrefix(err.Error(), "endpoint: a request still runs") {
		t.Errorf("shutdown: %v", err)
	}
	if again := s.Shutdown(t.Context()); again != err {
		t.Errorf("the second call: %v", again)
	}
}

// SyscallConn reaches the socket itself, and says when there is none.
func TestSyscallConn(t *testing.T) {
	s := start(t, limits, http.NotFound)
	defer s.Shutdown(t.Context())
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	listening := 0
	if err := raw.Control(func(fd uintptr) {
		listening, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_ACCEPTCONN)
	}); err != nil || listening != 1 {
		t.Errorf("SO_ACCEPTCONN is %d, %v", listening, err)
	}
	bare := endpoint.New(noSocket{}, endpoint.Config{Name: "endpoint", Limits: limits})
	if _, err := bare.SyscallConn(); err == nil {
		t.Error("a descriptor of no socket")
	}
}

// noSocket is a listener without a descriptor.
type noSocket struct{}

func (noSocket) Accept() (net.Conn, error) { return nil, errors.ErrUnsupported }
func (noSocket) Addr() net.Addr            { return nil }
func (noSocket) Close() error              { return nil }
