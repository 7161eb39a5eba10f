package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

const idPayload = `{"user_id":"u7","request_id":"r7","prompt":"p"}`

// rejections collects what Config.Rejected is told.
type rejections struct {
	mu   sync.Mutex
	ends []stream.End
}

func (r *rejections) add(e stream.End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends = append(r.ends, e)
}

func (r *rejections) await(t *testing.T, n int) []stream.End {
	t.Helper()
	fdtest.Eventually(t, "the rejections", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.ends) >= n
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.ends) != n {
		t.Fatalf("%d rejections were told, want %d", len(r.ends), n)
	}
	return r.ends
}

// Goal: what an access log needs of a stream is what its client saw, however the stream went. Method: each row is a
// stream of one script; the status is compared with the head that the client read.
func TestAccessOfStreams(t *testing.T) {
	hold := func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.HoldHead(); return nil }
	tests := []struct {
		name     string
		start    func(s *streamtest.Script, p fdrecv.Payload) error
		then     func(s *streamtest.Script)
		headSent bool
		status   int
		cause    error
		events   uint64
	}{
		{"complete", nil, func(s *streamtest.Script) { s.Send(one); s.End(nil) }, false, 200, nil, 1},
		{"complete behind fdpass", nil, func(s *streamtest.Script) { s.Send(one); s.End(nil) }, true, 200, nil, 1},
		{"failed on the way", nil, func(s *streamtest.Script) { s.Send(one); s.End(stream.ErrBackend) }, false, 200, stream.ErrBackend, 1},
		{"refused in Start", func(*streamtest.Script, fdrecv.Payload) error { return &stream.Refusal{Status: 422, Message: "no"} },
			nil, false, 422, &stream.Refusal{}, 0},
		{"refused behind fdpass", func(*streamtest.Script, fdrecv.Payload) error { return &stream.Refusal{Status: 422, Message: "no"} },
			nil, true, 200, &stream.Refusal{}, 0},
		{"refused with the head held", hold, func(s *streamtest.Script) { s.End(stream.ErrBackend) }, false, 502, stream.ErrBackend, 0},
		{"complete with the head held first", hold, func(s *streamtest.Script) { s.Send(one); s.End(nil) }, false, 200, nil, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &streamtest.Script{OnStart: tt.start}
			r := rigWith(t, s, func(c *stream.Config) { c.KeepAccess = true; c.NewBackend = nil })
			c := streamtest.NewTCP(t)
			h := c.Take()
			h.Payload, h.HeadSent, h.Kind = streamtest.Payload(t, idPayload), tt.headSent, fdrecv.KindStream
			from := &stream.Origin{Backend: "script", NewBackend: func(*loop.Loop) stream.Backend { r.Watch(s); return s }}
			r.On(0, func() {
				h.AcceptedAt = r.Pool.Loops()[0].Clock()
				r.Server.HandoffFrom(0, h, from)
			})
			if tt.then != nil {
				r.On(0, func() { tt.then(s) })
			}
			got := c.All()
			end := r.AwaitEnds(1)[0]
			if refusal := (*stream.Refusal)(nil); errors.As(tt.cause, &refusal) {
				if !errors.As(end.Cause, &refusal) {
					t.Errorf("cause %v, want a refusal", end.Cause)
				}
			} else if !errors.Is(end.Cause, tt.cause) {
				t.Errorf("cause %v, want %v", end.Cause, tt.cause)
			}
			if !tt.headSent && !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", tt.status)) {
				t.Errorf("the client read %q, want status %d", got, tt.status)
			}
			a := end.Access
			if a == nil {
				t.Fatal("no Access")
			}
			if a.Status != tt.status || a.UserID != "u7" || a.RequestID != "r7" || a.Backend != "script" ||
				a.Kind != fdrecv.KindStream || a.Client.String() != "127.0.0.1:1" {
				t.Errorf("access %+v", *a)
			}
			if a.FirstByte <= 0 || a.FirstByte > end.Duration {
				t.Errorf("first byte after %v, the end after %v", a.FirstByte, end.Duration)
			}
			if end.Events != tt.events || end.Bytes != uint64(len(got)) {
				t.Errorf("%d events in %d bytes, want %d in %d", end.Events, end.Bytes, tt.events, len(got))
			}
		})
	}
}

// A client that leaves before it got a byte has no status; what was held for its refusal does not get lost either.
func TestAccessWithoutAByte(t *testing.T) {
	s := &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.HoldHead(); return nil }}
	r := rigWith(t, s, func(c *stream.Config) { c.KeepAccess = true })
	c := r.TCP(idPayload)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	end := r.AwaitEnds(1)[0]
	if !errors.Is(end.Cause, conn.ErrHangup) || end.Access == nil || end.Access.Status != 0 || end.Access.FirstByte != 0 ||
		end.Access.RequestID != "r7" {
		t.Errorf("%+v, %+v", end, end.Access)
	}
}

// Goal: clients that are refused without a stream are told of once each, also those past the reserve, who get no
// answer at all.
func TestAccessOfRejections(t *testing.T) {
	tests := []struct {
		name     string
		err      error
		sse      bool
		headSent bool
		reserve  int
		status   int
		cause    error
	}{
		{"full", nil, false, false, 1, 503, stream.ErrFull},
		{"full, as an event", nil, true, false, 1, 200, stream.ErrFull},
		{"full, behind fdpass", nil, false, true, 1, 200, stream.ErrFull},
		{"malformed", fmt.Errorf("fdrecv: %w", fdrecv.ErrMalformed), false, false, 1, 400, fdrecv.ErrMalformed},
		{"past the reserve", nil, false, false, 0, 0, stream.ErrFull},
		{"past the reserve, behind fdpass", nil, false, true, 0, 200, stream.ErrFull},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var told rejections
			r := rigWith(t, &streamtest.Script{}, func(c *stream.Config) {
				c.MaxConnections, c.RejectReserve, c.RejectSSE, c.KeepAccess, c.Rejected = 0, tt.reserve, tt.sse, true, told.add
			})
			c := streamtest.NewTCP(t)
			h := c.Take()
			h.Payload, h.Err, h.HeadSent = streamtest.Payload(t, idPayload), tt.err, tt.headSent
			r.Handoff(0, h)
			got := c.AwaitEnd()
			end := told.await(t, 1)[0]
			if !errors.Is(end.Cause, tt.cause) || end.Bytes != uint64(len(got)) || end.Events != 0 {
				t.Errorf("%+v after %q", end, got)
			}
			if a := end.Access; a == nil || a.Status != tt.status || a.UserID != "u7" || (a.FirstByte > 0) != (len(got) > 0) {
				t.Errorf("access %+v, want status %d", a, tt.status)
			}
			if len(r.Ends()) != 0 {
				t.Error("a rejection was told as a stream")
			}
		})
	}
}

// Without KeepAccess nothing is kept and nothing told; and what is kept is no alias of the payload, which may be large.
func TestAccessIsAskedFor(t *testing.T) {
	s := &streamtest.Script{}
	r := rigWith(t, s, nil)
	c := r.TCP(idPayload)
	r.On(0, func() { s.End(nil) })
	c.All()
	if end := r.AwaitEnds(1)[0]; end.Access != nil {
		t.Errorf("access %+v", end.Access)
	}
}

// The ids are cut, and cloned: they do not keep the payload.
func TestAccessIDs(t *testing.T) {
	s := &streamtest.Script{}
	long := strings.Repeat("u", 300)
	p := streamtest.Payload(t, `{"user_id":"`+long+`","request_id":"r","prompt":"`+strings.Repeat("x", 1<<16)+`"}`)
	r := rigWith(t, s, func(c *stream.Config) { c.KeepAccess = true })
	c := streamtest.NewTCP(t)
	h := c.Take()
	h.Payload = p
	r.Handoff(0, h)
	r.On(0, func() { s.End(nil) })
	c.All()
	a := r.AwaitEnds(1)[0].Access
	if a == nil || a.UserID != long[:256] || a.RequestID != "r" {
		t.Fatalf("access %+v", a)
	}
	raw := p.Raw()
	from, to := uintptr(unsafe.Pointer(&raw[0])), uintptr(unsafe.Pointer(&raw[len(raw)-1]))
	for _, id := range []string{a.UserID, a.RequestID} {
		if at := uintptr(unsafe.Pointer(unsafe.StringData(id))); at >= from && at <= to {
			t.Error("an id keeps the whole payload in memory")
		}
	}
}

// Goal: an idle stream costs the same whether there is an access log to be written or not in this build: nothing of it
// is in the Stream. 192 bytes is a size class of Go's allocator, and three whole cache lines; the next one is 208.
func TestStreamSize(t *testing.T) {
	if n := unsafe.Sizeof(stream.Stream{}); n > 192 {
		t.Errorf("a Stream has %d bytes, more than 192: each idle one pays for that", n)
	}
}

// Goal: new settings hold for streams that are open: an earlier heartbeat, an end that has passed already, and a later
// client is admitted or not by the new limit. Method: each step waits for what the client sees.
func TestReconfigure(t *testing.T) {
	var told rejections
	cfg := stream.Config{}
	r := rigOf(t, 2, func() *streamtest.Script { return &streamtest.Script{} }, func(c *stream.Config) {
		c.HeartbeatInterval, c.MaxStreamDuration, c.Rejected = time.Hour, 2*time.Hour, told.add
		cfg = *c
	})
	first, second := r.TCP(idPayload), r.TCP(idPayload)
	first.Until(head)
	second.Until(head)

	cfg.HeartbeatInterval = 20 * time.Millisecond
	cfg.MaxConnections, cfg.RejectReserve, cfg.RejectSSE, cfg.KeepAccess = 2, 5, true, true
	cfg.NewBackend = nil // must be ignored, as is what follows
	cfg.Rejected, cfg.Ended = nil, nil
	r.Server.Reconfigure(cfg)
	first.Until(heartbeat)
	second.Until(heartbeat)
	third := r.TCP(idPayload)
	if got := third.All(); !strings.Contains(got, "event: overloaded") {
		t.Errorf("past the new limit: %q", got)
	}
	if end := told.await(t, 1)[0]; end.Access == nil || end.Access.UserID != "u7" {
		t.Errorf("%+v", end)
	}

	cfg.MaxConnections = 3
	r.Server.Reconfigure(cfg)
	r.On(0, func() {}) // posted before, so it has run
	fourth := r.TCP(idPayload)
	fourth.Until(head)

	cfg.HeartbeatInterval, cfg.MaxStreamDuration = 0, time.Nanosecond
	r.Server.Reconfigure(cfg)
	for _, c := range []*streamtest.Client{first, second, fourth} {
		if got := c.All(); !strings.Contains(got, "maximum duration") {
			t.Errorf("a stream past the new deadline: %q", got)
		}
	}
	for _, end := range r.AwaitEnds(3) {
		if !errors.Is(end.Cause, stream.ErrDeadline) {
			t.Errorf("cause %v", end.Cause)
		}
	}
}

// A write timeout that becomes shorter ends a client that takes nothing already, and one more pending byte than the new
// cap evicts.
func TestReconfigureOfConns(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*stream.Config)
		cause  error
	}{
		{"write timeout", func(c *stream.Config) { c.Conn.WriteTimeout = 10 * time.Millisecond }, conn.ErrWriteTimeout},
		{"pending bytes", func(c *stream.Config) { c.MaxPendingBytes = 1 }, conn.ErrEvicted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate()
			s := &streamtest.Script{}
			var cfg stream.Config
			r := rigWith(t, s, func(c *stream.Config) {
				c.Conn = conn.Config{WriteTimeout: time.Hour, Kernel: g}
				cfg = *c
			})
			c := r.TCP("")
			c.Until(head)
			r.On(0, func() { g.shut.Store(true); s.Send(one) })
			cfg.Conn.Kernel = nil
			tt.change(&cfg)
			r.Server.Reconfigure(cfg)
			r.On(0, func() { s.Send(two) })
			if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, tt.cause) {
				t.Errorf("cause %v, want %v", end.Cause, tt.cause)
			}
		})
	}
}
