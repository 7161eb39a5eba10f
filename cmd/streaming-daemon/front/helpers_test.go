package front_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
)

// patience bounds every wait of a test: far beyond what a loaded machine needs.
const patience = 20 * time.Second

// startFront starts a front on a free port of loopback and shuts it down at the end of the test.
func startFront(t testing.TB, cfg front.Config, limits front.Limits) *front.Server {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	s, err := front.StartLimited(cfg, limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return s
}

// client is an HTTP client that leaves nothing behind.
func client(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// handed is a client that a daemon received: its own descriptor, and the payload.
type handed struct {
	fd      loop.FD
	payload payload
}

type payload struct {
	Prompt          string            `json:"prompt"`
	UserID          string            `json:"user_id"`
	RequestID       string            `json:"request_id"`
	ResponseHeaders map[string]string `json:"response_headers"`
}

// receive is what a handoff makes of Send's arguments: a descriptor of the receiver's own, to the same socket.
func receive(client int, data []byte) (handed, error) {
	var h handed
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&h.payload); err != nil {
		return handed{}, err
	}
	n, err := unix.FcntlInt(uintptr(client), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return handed{}, err
	}
	h.fd = loop.OwnFD(n)
	return h, nil
}

// write sends all of b, which may wait for the client.
func (h *handed) write(b []byte) error {
	for len(b) > 0 {
		n, err := unix.SendmsgN(h.fd.Int(), b, nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(h.fd.Int()), Events: unix.POLLOUT}}, 100)
		case err == unix.EINTR:
		case err != nil:
			return err
		default:
			b = b[n:]
		}
	}
	return nil
}

// head is the stream's head, with the payload's headers.
func (h *handed) head() []byte {
	var extra []sse.Header
	for name, value := range h.payload.ResponseHeaders {
		extra = append(extra, sse.Header{Name: name, Value: value})
	}
	return sse.AppendHead(nil, extra)
}

// daemon keeps what Send was given until the test takes it.
type daemon chan handed

func newDaemon(t testing.TB) daemon {
	d := make(daemon, 16)
	t.Cleanup(func() {
		for {
			select {
			case h := <-d:
				_ = h.fd.Close()
			default:
				return
			}
		}
	})
	return d
}

func (d daemon) send(client int, data []byte) error {
	h, err := receive(client, data)
	if err == nil {
		d <- h
	}
	return err
}

func (d daemon) next(t testing.TB) handed {
	t.Helper()
	select {
	case h := <-d:
		return h
	case <-time.After(patience):
		t.Fatal("no client was handed over")
		return handed{}
	}
}

// alone waits until the front has closed its copy: the receiver's descriptor is the only one left to the socket.
func (h *handed) alone(t testing.TB) {
	t.Helper()
	var stat unix.Stat_t
	if err := unix.Fstat(h.fd.Int(), &stat); err != nil {
		t.Fatal(err)
	}
	socket := fmt.Sprintf("-> socket:[%d]", stat.Ino)
	fdtest.Eventually(t, "the front to close its copy", func() bool {
		return strings.Count(strings.Join(fdtest.OpenFDs(t), "\n"), socket) == 1
	})
}

// log is a sink for slog that may be read while it is written to.
type log struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *log) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// dial opens a bare connection to the front; it is closed at the end of the test.
func dial(t testing.TB, s *front.Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", hostport(s))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c
}

func hostport(s *front.Server) string {
	return strings.TrimSuffix(strings.TrimPrefix(s.URL(), "http://"), "/")
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("after %q: %v", b, err)
	}
	return string(b)
}
