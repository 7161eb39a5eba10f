package h2_test

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/upstream"
)

var quiet = log.New(io.Discard, "", 0)

func flush(w http.ResponseWriter) { w.(http.Flusher).Flush() }

// TestRequest: what net/http's server reads is the request that was meant.
func TestRequest(t *testing.T) {
	fdtest.NoLeaks(t)
	got := make(chan *http.Request, 1)
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Header.Set("Test-Body", string(body))
		got <- r
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Retry-After", "7")
		_, _ = io.WriteString(w, "hello")
	})
	r := newRig(t, 1, cfg)
	a := r.start(`{"model":"m"}`).wait()
	mustComplete(t, a, "hello")
	if a.contentType != "text/event-stream" || a.retry != "7" {
		t.Errorf("%v", a)
	}
	req := await(t, got, "the request")
	host := fmt.Sprintf("127.0.0.1:%d", cfg.Target.Port)
	if req.Proto != "HTTP/2.0" || req.Method != "POST" || req.RequestURI != "/v1/chat/completions?x=y" || req.Host != host ||
		req.Header.Get("Test-Body") != `{"model":"m"}` || req.ContentLength != 13 || req.Header.Get("Authorization") != "Bearer k" ||
		req.Header.Get("Accept-Encoding") != "identity" || req.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%+v", req)
	}
	r.settled(1)
	mustComplete(t, r.start("").wait(), "hello")
	if c := r.tr.Counts(); c.Dials != 1 || c.Reused != 1 || c.Retried != 0 || c.BytesIn != 10 {
		t.Errorf("%+v", c)
	}
}

// TestLargeBodies: bodies far beyond every window, both ways, and many at a time.
func TestLargeBodies(t *testing.T) {
	fdtest.NoLeaks(t)
	const size = 3 << 20
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	r := newRig(t, 2, cfg)
	var callers []*caller
	var bodies []string
	for i := range 4 {
		bodies = append(bodies, strings.Repeat(fmt.Sprintf("%08d", i), size/8))
		callers = append(callers, r.start(bodies[i], onLoop(i%2)))
	}
	for i, c := range callers {
		a := c.wait()
		if a.err != nil || !bytes.Equal(a.body, []byte(bodies[i])) {
			t.Errorf("call %d: %d bytes, error %v", i, len(a.body), a.err)
		}
	}
	r.settled(1)
}

// TestManyStreams: two thousand calls on one connection are whole, cost next to no goroutine, and keep their bytes apart.
func TestManyStreams(t *testing.T) {
	fdtest.NoLeaks(t)
	const calls, rounds = 2000, 3
	var inside atomic.Int64
	everybody := make(chan struct{})
	measured := make(chan struct{})
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) {
		name, _ := io.ReadAll(r.Body)
		flush(w)
		if inside.Add(1) == calls {
			close(everybody)
		}
		<-measured
		for i := range rounds {
			fmt.Fprintf(w, "%s %d\n", name, i)
			flush(w)
		}
	}, func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: calls} })
	r := newRig(t, 2, cfg)
	base := ours()
	callers := make([]*caller, calls)
	for i := range callers {
		callers[i] = r.start(fmt.Sprintf("call %d", i), onLoop(i%2))
	}
	await(t, everybody, "all calls to be at the server")
	for _, c := range callers {
		await(t, c.began, "a head")
	}
	if n := ours() - base; n*50 >= calls {
		t.Errorf("%d goroutines for %d calls", n, calls)
	}
	if c := r.tr.Counts(); c.Open != 1 || c.Calls != calls || c.Idle != 0 {
		t.Errorf("%+v", c)
	}
	close(measured)
	for i, c := range callers {
		want := ""
		for n := range rounds {
			want += fmt.Sprintf("call %d %d\n", i, n)
		}
		mustComplete(t, c.wait(), want)
	}
	r.settled(1)
}

// ours counts the goroutines that run code of the transport: the server of the test has its own, in this process too.
func ours() int {
	stacks := make([]byte, 64<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for g := range strings.SplitSeq(string(stacks), "\n\n") {
		if strings.Contains(g, "sse/openai/h2.(") {
			n++
		}
	}
	return n
}

// TestCancel: the server hears of a cancelled call within 50 ms, and the connection goes on to serve.
func TestCancel(t *testing.T) {
	fdtest.NoLeaks(t)
	gone := make(chan time.Time, 1)
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); string(body) != "cancel" {
			return
		}
		flush(w)
		<-r.Context().Done()
		gone <- time.Now()
	})
	r := newRig(t, 1, cfg)
	c := r.start("cancel")
	await(t, c.began, "the head")
	var at time.Time
	r.on(0, func() { at = time.Now(); c.call.Cancel(); c.call.Cancel() })
	if d := await(t, gone, "the server to hear of it").Sub(at); d > 50*time.Millisecond && !raceEnabled {
		t.Errorf("the server heard of it after %v", d)
	}
	mustComplete(t, r.start("more").wait(), "")
	r.settled(1)
	if a := c.now(); a.ends != 0 {
		t.Errorf("a cancelled call heard: %v", a)
	}
	if n := r.tr.Counts().Dials; n != 1 {
		t.Errorf("%d dials", n)
	}
}

// TestStatuses: answers without events come as they are.
func TestStatuses(t *testing.T) {
	fdtest.NoLeaks(t)
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var status int
		_, _ = fmt.Sscan(string(body), &status)
		w.WriteHeader(103)
		w.WriteHeader(status)
		if status != 204 {
			fmt.Fprintf(w, "status %d", status)
		}
	})
	r := newRig(t, 1, cfg)
	for _, status := range []int{200, 204, 400, 429, 503} {
		a := r.start(fmt.Sprint(status)).wait()
		want := fmt.Sprintf("status %d", status)
		if status == 204 {
			want = ""
		}
		if a.err != nil || a.status != status || string(a.body) != want || a.heads != 1 {
			t.Errorf("%d: %v", status, a)
		}
	}
}

// TestPaused: a paused call gets one window and no more; others on its connection go on meanwhile; after Resume it gets
// the rest.
func TestPaused(t *testing.T) {
	fdtest.NoLeaks(t)
	const size = 1 << 20
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(make([]byte, size)) })
	cfg.StreamWindow = 20 << 10
	r := newRig(t, 1, cfg)
	var slow []*caller
	for range 20 { // together more than the connection's window would carry, were it not refilled at once
		slow = append(slow, r.start("", onHead(func(c *caller) { c.call.Pause() })))
	}
	for _, c := range slow {
		fdtest.Eventually(t, "a window's worth", func() bool { return len(c.now().body) == int(cfg.StreamWindow) })
	}
	if n := r.tr.Counts().Paused; n != 20 {
		t.Errorf("%d are paused", n)
	}
	for range 5 { // and nobody else is slowed; these take longer than anything that might still come to the paused ones
		if a := r.start("").wait(); len(a.body) != size || a.err != nil {
			t.Fatal(a)
		}
	}
	for _, c := range slow {
		if n := len(c.now().body); n != int(cfg.StreamWindow) {
			t.Fatalf("a paused call got %d bytes", n)
		}
		r.on(0, c.call.Resume)
	}
	for _, c := range slow {
		if a := c.wait(); len(a.body) != size || a.err != nil {
			t.Fatal(a)
		}
	}
	r.settled(1)
}

// TestRelease: a short rest is read so that the stream ends in order; one without end is reset after a while.
func TestRelease(t *testing.T) {
	fdtest.NoLeaks(t)
	ended := make(chan error, 2)
	more := make(chan struct{})
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "data: [DONE]\n\n")
		flush(w)
		if string(body) == "endless" {
			<-r.Context().Done()
			ended <- r.Context().Err()
			return
		}
		<-more
		_, err := io.WriteString(w, "rest")
		ended <- err
	})
	r := newRig(t, 1, cfg)
	release := onBody(func(c *caller, _ []byte) { c.call.Release() })
	c := r.start("short", release)
	fdtest.Eventually(t, "the release", func() bool { return r.tr.Counts().Calls == 0 })
	if n := r.tr.Counts().Idle; n != 0 {
		t.Error("the connection is idle though its stream has not ended")
	}
	close(more)
	if err := await(t, ended, "the short one"); err != nil {
		t.Error(err)
	}
	r.settled(1)
	if a := c.now(); a.ends != 0 || string(a.body) != "data: [DONE]\n\n" {
		t.Errorf("a released call heard more: %v", a)
	}
	r.start("endless", release)
	if err := await(t, ended, "the endless one"); err == nil {
		t.Error("the endless one ended in order")
	}
	r.settled(1)
}

// TestCertificate: one that is not trusted, or for another name, fails the call; the insecure option lets it pass.
func TestCertificate(t *testing.T) {
	fdtest.NoLeaks(t)
	cfg := netServer(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") })
	trusted := cfg.RootCAs
	cfg.RootCAs = nil
	mustFail(t, newRig(t, 1, cfg).start("").wait(), upstream.ErrTLS)
	cfg.RootCAs, cfg.Target.Host = trusted, "localhost" // the test's certificate is for 127.0.0.1 and example.com
	mustFail(t, newRig(t, 1, cfg).start("").wait(), upstream.ErrTLS)
	cfg.Target.InsecureTLS = true
	mustComplete(t, newRig(t, 1, cfg).start("").wait(), "hello")
}
