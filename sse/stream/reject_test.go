package stream_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

const corsPayload = `{"prompt":"p","request_id":"r7","response_headers":{"Access-Control-Allow-Origin":"https://a.example",` +
	`"Content-Type":"text/html","bad name":"x","X-Split":"a\r\nX-Injected: 1"}}`

// checkRefusal checks a whole HTTP rejection, the payload's headers included.
func checkRefusal(t *testing.T, got string, status int, message, retryAfter string) {
	t.Helper()
	r, body := response(t, got)
	if r.StatusCode != status || r.Header.Get("Retry-After") != retryAfter {
		t.Errorf("status %d, Retry-After %q; want %d, %q", r.StatusCode, r.Header.Get("Retry-After"), status, retryAfter)
	}
	if ct := r.Header.Values("Content-Type"); len(ct) != 1 || ct[0] != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
	if o := r.Header.Get("Access-Control-Allow-Origin"); o != "https://a.example" {
		t.Errorf("without CORS headers fetch() cannot read it: %q", got)
	}
	for _, bad := range []string{"Bad Name", "X-Split", "X-Injected"} {
		if r.Header.Get(bad) != "" {
			t.Errorf("header %s came through: %q", bad, got)
		}
	}
	if strings.Count(body, "\n") != 1 || !strings.HasSuffix(body, "\n") {
		t.Errorf("body %q is not one line", body)
	}
	var v struct {
		Error struct {
			Status  int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(body), &v); err != nil || v.Error.Status != status || !strings.Contains(v.Error.Message, message) {
		t.Errorf("body %q: %v", body, err)
	}
}

// Goal: what is wrong with a handoff reaches its client with a status of its own (P-04, P-19, P-21), and with the
// valid ones of its headers. Behind fdpass (HeadSent) it is an event.
func TestRejections(t *testing.T) {
	tests := []struct {
		name       string
		err        error
		status     int
		message    string
		retryAfter string
	}{
		{"malformed", fmt.Errorf("fdrecv: %w: prompt: not a string", fdrecv.ErrMalformed), 400, "prompt: not a string", ""},
		{"too large", fmt.Errorf("fdrecv: %w", fdrecv.ErrTooLarge), 413, "too large", ""},
		{"timeout", fmt.Errorf("fdrecv: %w", fdrecv.ErrTimeout), 408, "in time", ""},
		{"broken", fmt.Errorf("fdrecv: %w", fdrecv.ErrBroken), 400, "broken", ""},
		{"two descriptors", fmt.Errorf("fdrecv: %w", fdrecv.ErrExtraFD), 400, "broken", ""},
		{"cut descriptors", fmt.Errorf("fdrecv: %w", fdrecv.ErrTruncatedControl), 400, "broken", ""},
		{"closed", fmt.Errorf("fdrecv: %w", fdrecv.ErrClosed), 503, "shutting down", "1"},
		{"full", nil, 503, "too many streams", "3"},
	}
	for _, tt := range tests {
		for kind, newClient := range streamtest.Kinds {
			for _, headSent := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/head sent %v", tt.name, kind, headSent), func(t *testing.T) {
					r := rigWith(t, &streamtest.Script{}, func(c *stream.Config) { c.MaxConnections = 0 })
					c := newClient(t)
					h := c.Take()
					h.Payload, h.Err, h.HeadSent = streamtest.Payload(t, corsPayload), tt.err, headSent
					r.Handoff(0, h)
					got := c.All()
					if !headSent {
						checkRefusal(t, got, tt.status, tt.message, tt.retryAfter)
					} else {
						retry := ""
						if tt.retryAfter != "" {
							retry = "retry: " + tt.retryAfter + "000\n"
						}
						prefix := "event: error\n" + retry + `data: {"error":{"message":"`
						if !strings.HasPrefix(got, prefix) || !strings.Contains(got, tt.message) || strings.Count(got, "\n\n") != 1 {
							t.Errorf("got %q, want one event %q… with %q", got, prefix, tt.message)
						}
					}
					if n := r.Server.Counts(); n.Rejected != 1 || n.Streams != 0 || n.Peak != 0 || n.Events != 0 {
						t.Errorf("counts %+v", n)
					}
					if len(r.Ends()) != 0 {
						t.Error("a rejection was counted as a stream")
					}
					if log := r.Log.String(); !strings.Contains(log, "request_id=r7") || strings.Contains(log, "prompt=") {
						t.Errorf("dropped headers are logged once, with the request, without the prompt: %q", log)
					}
				})
			}
		}
	}
}

// The 503, byte for byte.
func TestRejectionBytes(t *testing.T) {
	r := rigWith(t, &streamtest.Script{}, func(c *stream.Config) { c.MaxConnections, c.RetryAfter = 0, 1500*time.Millisecond })
	const body = `{"error":{"status":503,"message":"too many streams are open"}}` + "\n"
	want := fmt.Sprintf("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"+
		"Cache-Control: no-store\r\nConnection: close\r\nRetry-After: 2\r\nX-A: b\r\n\r\n%s", len(body), body)
	if got := r.TCP(`{"response_headers":{"X-A":"b"}}`).All(); got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

// An EventSource gives up at a 503 for good; it comes back after a 200 that ends.
func TestRejectSSE(t *testing.T) {
	const event = "event: overloaded\nretry: 3000\ndata: {\"error\":{\"status\":503,\"message\":\"too many streams are open\"}}\n\n"
	r := rigWith(t, &streamtest.Script{}, func(c *stream.Config) { c.MaxConnections, c.RejectSSE = 0, true })
	want := strings.TrimSuffix(head, "\r\n") + "X-A: b\r\n\r\n" + event
	if got := r.TCP(`{"response_headers":{"X-A":"b"}}`).All(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	c := streamtest.NewTCP(t)
	h := c.Take()
	h.HeadSent = true
	r.Handoff(0, h)
	if got := c.All(); got != event {
		t.Errorf("behind fdpass: %q, want %q", got, event)
	}
	c = streamtest.NewTCP(t)
	h = c.Take()
	h.Err = fdrecv.ErrMalformed
	r.Handoff(0, h)
	if got := c.All(); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
		t.Errorf("a fault of the sender is no overload: %q", got)
	}
}

// A handoff that brought no client is nobody to answer.
func TestNoClientNoRejection(t *testing.T) {
	r := rigWith(t, &streamtest.Script{}, nil)
	r.Handoff(0, fdrecv.Handoff{Err: fdrecv.ErrNoFD})
	if n := r.Server.Counts(); n.Rejected != 0 || n.Connections != 0 {
		t.Errorf("counts %+v", n)
	}
}

// Goal: a flood of rejections is bounded and costs the open streams nothing. Method: clients that neither read nor
// close hold the whole reserve; every further one is closed at once, and the open stream's events still come.
func TestRejectReserve(t *testing.T) {
	const reserve, flood = 5, 200
	s := &streamtest.Script{}
	r := rigWith(t, s, func(c *stream.Config) {
		c.MaxConnections, c.RejectReserve = 1, reserve
		c.Conn = conn.Config{LingerTimeout: time.Minute}
	})
	open := r.TCP("")
	open.Until(head)
	var holders []*streamtest.Client
	for range reserve {
		holders = append(holders, r.TCP(""))
	}
	for range flood {
		c := r.TCP("")
		if got := c.AwaitEnd(); got != "" {
			t.Fatalf("got %q past the reserve", got)
		}
		_ = c.Close()
	}
	if n := r.Server.Held(); n != 1+reserve {
		t.Errorf("%d held, want %d", n, 1+reserve)
	}
	if n := r.Server.Counts(); n.Rejected != reserve+flood || n.Streams != 1 || n.Connections != 1+reserve {
		t.Errorf("counts %+v", n)
	}
	r.On(0, func() { s.Send(one); s.End(nil) })
	if got := open.All(); got != head+one+done {
		t.Errorf("the open stream: %q", got)
	}
	for _, c := range holders {
		if got := c.All(); !strings.HasPrefix(got, "HTTP/1.1 503 ") {
			t.Errorf("within the reserve: %q", got)
		}
	}
}
