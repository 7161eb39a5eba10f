package apachetest_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/apachetest"
	"streaming-daemon-go/sse"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 30 * time.Second

// browser asks as EventSource and fetch() do: a new connection for each request, redirects followed with the cookie.
// Its receive buffer is small, so that a stream which it does not read stays open.
type browser struct {
	http.Client
	base, cookie string
}

func newBrowser(t testing.TB, a *apachetest.Apache, cookie string) *browser {
	t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 8<<10) })
	}}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: dialer.DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &browser{Client: http.Client{Transport: transport, Timeout: patience}, base: "http://" + a.Addr, cookie: cookie}
}

// request makes one; fields come as name, value.
func (b *browser) request(method, path, body string, fields ...string) *http.Request {
	r, err := http.NewRequestWithContext(context.Background(), method, b.base+path, strings.NewReader(body))
	if err != nil {
		panic(err) // a test's own constant is wrong
	}
	if b.cookie != "" {
		r.Header.Set("Cookie", b.cookie)
	}
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	return r
}

// answer is a response that was read to its end.
type answer struct {
	status int
	header http.Header
	body   string
	events []event
}

type event struct{ name, data string }

// ask sends a request and reads the answer to its end. Errors end the test.
func (b *browser) ask(t testing.TB, r *http.Request) answer {
	t.Helper()
	response, err := b.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %d, %q, then %v", r.Method, r.URL, response.StatusCode, body, err)
	}
	a := answer{status: response.StatusCode, header: response.Header, body: string(body)}
	if strings.HasPrefix(a.header.Get("Content-Type"), "text/event-stream") {
		a.events = parse(t, body)
	}
	return a
}

func (b *browser) get(t testing.TB, path string, fields ...string) answer {
	t.Helper()
	return b.ask(t, b.request(http.MethodGet, path, "", fields...))
}

func parse(t testing.TB, body []byte) (all []event) {
	t.Helper()
	var parser sse.Parser
	if err := parser.Feed(body, func(e sse.Event) { all = append(all, event{string(e.Name), string(e.Data)}) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// complete reports whether the stream ended as it should: n events, then [DONE].
func (a answer) complete(n int) bool {
	return a.status == http.StatusOK && len(a.events) == n+1 && a.events[n].data == "[DONE]"
}

// textOf joins the contents of a stream's events, and holds it to its end.
func textOf(t testing.TB, events []event) string {
	t.Helper()
	if len(events) == 0 || events[len(events)-1].data != "[DONE]" {
		t.Fatalf("no whole stream: %q", events)
	}
	var text strings.Builder
	for _, e := range events[:len(events)-1] {
		var content struct{ Content string }
		if err := json.Unmarshal([]byte(e.data), &content); err != nil {
			t.Fatal(err)
		}
		text.WriteString(content.Content)
	}
	return text.String()
}
