package main_test

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
)

// fullBacklog listens at an address, accepts nothing, and has filled its backlog when it returns: who connects is not
// answered (TCP), or told to come back (unix(7), EAGAIN).
func fullBacklog(t *testing.T, domain int, address unix.Sockaddr) (bound unix.Sockaddr) {
	t.Helper()
	socket := func() int {
		n, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(n) })
		return n
	}
	listener := socket()
	if err := unix.Bind(listener, address); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(listener, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(listener)
	if err != nil {
		t.Fatal(err)
	}
	const most = 16 // a backlog of 0 has room for one
	for range most {
		n := socket()
		err := unix.Connect(n, bound)
		if errors.Is(err, unix.EAGAIN) {
			return bound
		}
		if errors.Is(err, unix.EINPROGRESS) {
			// Over loopback the answer is there at once, or a second later, when the SYN is sent again.
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(n), Events: unix.POLLOUT}}, 300)
			for errors.Is(err, unix.EINTR) { // the runtime's own signals
				ready, err = unix.Poll([]unix.PollFd{{Fd: int32(n), Events: unix.POLLOUT}}, 300)
			}
			if err != nil {
				t.Fatal(err)
			}
			if ready == 0 {
				return bound
			}
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d connections do not fill a backlog of 0", most)
	return nil
}

// Goal: -openai-connect-timeout bounds the way to an upstream that does not answer, whichever it is, and the client is
// told in time. Method: addresses whose backlog is full, and a server that accepts and does not go on with TLS; the
// answer must come after the timeout and well before the default.
func TestOpenAIConnectTimeout(t *testing.T) {
	t.Parallel()
	const timeout, byDefault = 700 * time.Millisecond, 5 * time.Second
	full := func(t *testing.T) string {
		bound := fullBacklog(t, unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}).(*unix.SockaddrInet4)
		return fmt.Sprintf("127.0.0.1:%d/v1", bound.Port)
	}
	for name, upstream := range map[string]func(t *testing.T) []string{
		"http":  func(t *testing.T) []string { return []string{"-openai-base", "http://" + full(t)} },
		"h2c":   func(t *testing.T) []string { return []string{"-openai-h2c", "-openai-base", "http://" + full(t)} },
		"https": func(t *testing.T) []string { return []string{"-openai-base", "https://" + full(t)} },
		"unix": func(t *testing.T) []string {
			path := filepath.Join(shortDir(t), "api")
			fullBacklog(t, unix.AF_UNIX, &unix.SockaddrUnix{Name: path})
			return []string{"-openai-socket", path}
		},
		"no handshake": func(t *testing.T) []string {
			l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel connects, and nobody reads
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = l.Close() })
			return []string{"-openai-base", "https://" + l.Addr().String() + "/v1"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := launch(t, setup{args: append([]string{"-backend", "openai", "-default-model", "m-1",
				"-openai-connect-timeout", timeout.String()}, upstream(t)...), env: []string{"OPENAI_API_KEY=" + apiKey}})
			d.awaitLog("ready")
			begun := time.Now()
			a := d.ask(fdrecv.KindStream, `{"prompt":"x"}`)
			a.refused(t, http.StatusGatewayTimeout)
			if took := a.at.Sub(begun); took < timeout || took > byDefault-timeout {
				t.Errorf("refused after %v, want about %v", took, timeout)
			}
			d.awaitMetric("daemon_upstream_streams", 0)
			samples := d.scrape()
			for name, want := range map[string]float64{
				`daemon_backend_errors_total{backend="openai",reason="connect_timeout"}`: 1,
				`daemon_backend_requests_total{backend="openai"}`:                        1,
				`daemon_backend_ttfb_seconds_count`:                                      0,
				`daemon_upstream_connections{state="open"}`:                              0,
			} {
				if got, ok := samples[name]; !ok || got != want {
					t.Errorf("%s is %v (there: %t), want %v", name, got, ok, want)
				}
			}
		})
	}
}
