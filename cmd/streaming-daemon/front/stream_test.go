package front_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse"
)

// pieces hides the length of its text, so that net/http sends it in chunks, and gives a byte at a time.
type pieces struct{ r io.Reader }

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:1]) }

// The whole way, for each form of request: the payload is right, the client socket is as Apache would leave it
// (P-05, P-12), the front closes its copy without a shutdown (P-07: only then does the daemon write, and the client
// reads all of it), and what ends the response is the daemon's close.
func TestHandoff(t *testing.T) {
	const prompt = "x<y & \"z\"\n日本語 \u2028"
	get := func(base string) (*http.Request, error) {
		return http.NewRequest("GET", base+"stream?prompt="+url.QueryEscape(prompt), nil)
	}
	post := func(wrap func(io.Reader) io.Reader) func(string) (*http.Request, error) {
		return func(base string) (*http.Request, error) {
			body, err := json.Marshal(map[string]string{"prompt": prompt})
			if err != nil {
				return nil, err
			}
			r, err := http.NewRequest("POST", base+"stream", wrap(strings.NewReader(string(body))))
			if err == nil {
				r.Header.Set("Content-Type", "application/json; charset=utf-8")
			}
			return r, err
		}
	}
	tests := []struct {
		name    string
		request func(base string) (*http.Request, error)
	}{
		{"GET", get},
		{"POST", post(func(r io.Reader) io.Reader { return r })},
		{"POST in chunks of a byte", post(func(r io.Reader) io.Reader { return pieces{r} })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			// Package net closes a forgotten connection when it is collected: that must not pass for our close.
			defer debug.SetGCPercent(debug.SetGCPercent(-1))
			d := newDaemon(t)
			s := startFront(t, front.Config{Send: d.send}, front.Limits{})
			request, err := tt.request(s.URL())
			if err != nil {
				t.Fatal(err)
			}
			type answer struct {
				header http.Header
				body   string
				err    error
			}
			got := make(chan answer, 1)
			c := client(t)
			go func() {
				response, err := c.Do(request)
				if err != nil {
					got <- answer{err: err}
					return
				}
				defer response.Body.Close()
				body, err := io.ReadAll(response.Body)
				got <- answer{response.Header, string(body), err}
			}()

			h := d.next(t)
			defer h.fd.Close()
			if h.payload.Prompt != prompt || h.payload.UserID != "front" || len(h.payload.RequestID) < 16 ||
				len(h.payload.ResponseHeaders) != 1 || h.payload.ResponseHeaders["X-Request-Id"] != h.payload.RequestID {
				t.Errorf("payload %+v", h.payload)
			}
			for _, option := range []struct {
				name          string
				level, option int
			}{{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY}, {"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE}} {
				if v, err := unix.GetsockoptInt(h.fd.Int(), option.level, option.option); err != nil || v == 0 {
					t.Errorf("P-05: %s is %d, %v", option.name, v, err)
				}
			}
			if n, _, err := unix.Recvfrom(h.fd.Int(), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT); !errors.Is(err, unix.EAGAIN) {
				t.Errorf("P-12: %d bytes of the request are left in the socket (%v)", n, err)
			}
			h.alone(t)
			events := sse.AppendContent(nil, "one")
			for _, b := range [][]byte{h.head(), events, []byte(sse.Done)} {
				if err := h.write(b); err != nil {
					t.Fatalf("P-07: the front must not end the connection: %v", err)
				}
			}
			if err := h.fd.Close(); err != nil {
				t.Fatal(err)
			}
			a := <-got
			if a.err != nil || a.body != string(events)+sse.Done {
				t.Errorf("client read %q, %v", a.body, a.err)
			}
			if id := a.header.Get("X-Request-Id"); id != h.payload.RequestID {
				t.Errorf("X-Request-Id %q, want %q", id, h.payload.RequestID)
			}
		})
	}
}

// Each request has an identifier of its own: it is what joins the log of the front with that of the daemon.
func TestRequestIDsDiffer(t *testing.T) {
	fdtest.NoLeaks(t)
	d := newDaemon(t)
	s := startFront(t, front.Config{Send: d.send}, front.Limits{})
	seen := map[string]bool{}
	for range 3 {
		c := dial(t, s)
		fmt.Fprintf(c, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
		h := d.next(t)
		seen[h.payload.RequestID] = true
		if h.payload.Prompt != "" {
			t.Errorf("no prompt was sent, %q was handed over", h.payload.Prompt)
		}
		_ = h.fd.Close()
	}
	if len(seen) != 3 {
		t.Errorf("%d different request IDs in 3 requests", len(seen))
	}
}

// A prompt as large as a request may carry, made of what JSON escapes lengthen most, still fits the 212,960 bytes of
// a handoff message (P-04).
func TestLargestPayload(t *testing.T) {
	fdtest.NoLeaks(t)
	size := make(chan int, 1)
	s := startFront(t, front.Config{Send: func(_ int, payload []byte) error {
		size <- len(payload)
		return errors.New("measured")
	}}, front.Limits{})
	const bodyMax = 64 << 10
	frame := len(`{"prompt":""}`)
	for _, escaped := range []string{"\u2028", "<", `\u0001`, "\x7f"} {
		body := `{"prompt":"` + strings.Repeat(escaped, (bodyMax-frame)/len(escaped)) + `"}`
		response, err := client(t).Post(s.URL()+"stream", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusServiceUnavailable { // it reached Send
			t.Fatalf("a body of %d bytes: status %d", len(body), response.StatusCode)
		}
		if n := <-size; n > 212_960 {
			t.Errorf("%q: payload of %d bytes", escaped, n)
		}
	}
}

// When nobody takes the handoff, the client must not be dropped: it gets a 503 that fetch() can read. The log tells,
// but not once per client, and never the prompt.
func TestSendFails(t *testing.T) {
	fdtest.NoLeaks(t)
	var l log
	s := startFront(t, front.Config{
		Send: func(int, []byte) error { return fmt.Errorf("connect: %w", unix.ECONNREFUSED) },
		Log:  l.logger(),
	}, front.Limits{Conns: 1}) // one: a slot that is not given back stops the second request
	const requests = 20
	for range requests {
		response, err := client(t).Get(s.URL() + "stream?prompt=secret-words")
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, response.Body)
		_ = response.Body.Close()
		var answer struct {
			Error struct {
				Status  int
				Message string
			}
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error.Status != 503 || answer.Error.Message == "" {
			t.Errorf("body %q, %v", body, err)
		}
		if response.StatusCode != 503 || response.Header.Get("Retry-After") == "" || !response.Close ||
			response.Header.Get("Content-Type") != "application/json" || response.Header.Get("X-Request-Id") == "" {
			t.Errorf("%s, close %t, %v", response.Status, response.Close, response.Header)
		}
	}
	logged := l.String()
	if n := strings.Count(logged, "level=WARN"); n < 1 || n >= requests {
		t.Errorf("%d warnings for %d failures:\n%s", n, requests, logged)
	}
	if !strings.Contains(logged, "connection refused") || strings.Contains(logged, "secret") {
		t.Errorf("log: %s", logged)
	}
}

// A Send that panics costs its own client only: the connection ends, and its slot (the only one) serves the next.
func TestSendPanics(t *testing.T) {
	fdtest.NoLeaks(t)
	d := newDaemon(t)
	first := true
	s := startFront(t, front.Config{Send: func(fd int, payload []byte) error {
		if first {
			first = false
			panic("deliberate")
		}
		return d.send(fd, payload)
	}}, front.Limits{Conns: 1})
	c := dial(t, s)
	fmt.Fprintf(c, "GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if got := readAll(t, c); got != "" {
		t.Errorf("read %q", got)
	}
	c = dial(t, s)
	fmt.Fprintf(c, "GET /stream?prompt=again HTTP/1.1\r\nHost: localhost\r\n\r\n")
	h := d.next(t)
	_ = h.fd.Close()
	if h.payload.Prompt != "again" {
		t.Errorf("prompt %q", h.payload.Prompt)
	}
}

// The browser may send its stream request on a connection that served the page before: what net/http left on it
// (deadlines, a read in the background) must not hurt the stream. A request pipelined behind it is lost (P-05), and
// gets no answer between the events.
func TestReusedConnection(t *testing.T) {
	fdtest.NoLeaks(t)
	d := newDaemon(t)
	s := startFront(t, front.Config{Send: d.send}, front.Limits{})
	c := dial(t, s)
	fmt.Fprintf(c, "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n"+
		"GET /stream?prompt=a HTTP/1.1\r\nHost: localhost\r\n\r\n"+
		"GET /app.css HTTP/1.1\r\nHost: localhost\r\n\r\n")
	h := d.next(t)
	defer h.fd.Close()
	h.alone(t)
	if err := h.write(append(h.head(), sse.Done...)); err != nil {
		t.Fatal(err)
	}
	// The shutdown that a daemon does at the end: it makes the far end's EOF independent of unread bytes here.
	if err := unix.Shutdown(h.fd.Int(), unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, c)
	if strings.Count(got, "HTTP/1.1 200") != 2 || !strings.HasSuffix(got, "\r\n\r\n"+sse.Done) || !strings.Contains(got, "</svg>") {
		t.Errorf("read %q", got)
	}
}
