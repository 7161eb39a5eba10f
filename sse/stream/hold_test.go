package stream_test

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"weak"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

func hold(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.HoldHead(); return nil }

// Goal: a held head keeps every way of an end open. Method: hold it past a turn, then act.
func TestHoldHead(t *testing.T) {
	corsHead := head[:len(head)-2] + "Access-Control-Allow-Origin: https://a.example\r\n\r\n"
	tests := []struct {
		name   string
		act    func(r *streamtest.Rig, s *streamtest.Script)
		status int      // of the refusal
		writes []string // where it is none
	}{
		{name: "refuse", status: 404, act: func(_ *streamtest.Rig, s *streamtest.Script) {
			s.End(&stream.Refusal{Status: 404, Message: "no such model"})
		}},
		{name: "fail", status: 502, act: func(_ *streamtest.Rig, s *streamtest.Script) { s.End(stream.ErrBackend) }},
		{name: "cut", status: 503, act: func(r *streamtest.Rig, _ *streamtest.Script) { r.Server.Cut(0) }},
		{name: "head", writes: []string{corsHead, one + done}, act: func(_ *streamtest.Rig, s *streamtest.Script) {
			s.SendHead()
			s.SendHead()
			_ = s.Out.Loop().Post(func() { s.Out.WakeAt(1) })
		}},
		{name: "event", writes: []string{corsHead + one, one + done}, act: func(_ *streamtest.Rig, s *streamtest.Script) {
			s.Send(one)
			_ = s.Out.Loop().Post(func() { s.Out.WakeAt(1) })
		}},
		{name: "end", writes: []string{corsHead + done}, act: func(_ *streamtest.Rig, s *streamtest.Script) { s.End(nil) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := &streamtest.Kernel{}
			s := &streamtest.Script{OnStart: hold, OnWake: func(s *streamtest.Script, _ time.Duration) {
				s.Send(one)
				s.End(nil)
			}}
			r := rigWith(t, s, func(c *stream.Config) { c.Conn.Kernel = k })
			c := r.TCP(corsPayload)
			after(t, r, 2*loop.TickLength)
			c.Nothing()
			r.On(0, func() { tt.act(r, s) })
			got := c.All()
			if tt.status != 0 {
				resp, _ := response(t, got)
				checkRefusal(t, got, tt.status, "", resp.Header.Get("Retry-After"))
				if (tt.status == 503) != (resp.Header.Get("Retry-After") != "") {
					t.Errorf("Retry-After of %q", got)
				}
				tt.writes = []string{got}
			}
			if w := k.Writes(c.FD); !slices.Equal(w, tt.writes) {
				t.Errorf("writes %q, want %q", w, tt.writes)
			}
		})
	}
}

func TestHeldHeadAtTheDeadline(t *testing.T) {
	s := &streamtest.Script{OnStart: hold}
	r := rigWith(t, s, func(c *stream.Config) { c.MaxStreamDuration = 10 * time.Millisecond })
	checkRefusal(t, r.TCP(corsPayload).All(), 504, "maximum duration", "")
}

// The client may leave before anything was sent.
func TestHangupWhileHeadIsHeld(t *testing.T) {
	s := &streamtest.Script{OnStart: hold}
	r := rigWith(t, s, nil)
	_ = r.TCP("").Close()
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	if err := s.Cause(); !errors.Is(err, conn.ErrHangup) {
		t.Errorf("Stop(%v)", err)
	}
	r.On(0, func() {
		s.SendHead()
		if s.Send(one) {
			t.Error("more is welcome")
		}
		s.End(nil)
	})
}

// Behind fdpass the head is out: what would have been a status is an event.
func TestHoldHeadBehindFDPass(t *testing.T) {
	s := &streamtest.Script{OnStart: hold}
	r := rigWith(t, s, nil)
	c := streamtest.NewTCP(t)
	h := c.Take()
	h.HeadSent = true
	r.Handoff(0, h)
	r.On(0, func() { s.End(&stream.Refusal{Status: 429, Message: "slow down", RetryAfter: time.Second}) })
	want := "event: error\nretry: 1000\ndata: {\"error\":{\"message\":\"slow down\"}}\n\n"
	if got := c.All(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// HoldHead means nothing once Start has returned.
func TestHoldHeadIsTooLate(t *testing.T) {
	s := &streamtest.Script{}
	r := rigWith(t, s, nil)
	c := r.TCP("")
	c.Until(head)
	r.On(0, func() { s.Out.HoldHead(); s.Send(one) })
	c.Until(one)
}

// Goal: a head that is held for as long as an upstream thinks does not keep the payload, which may be 200 KB, though
// the refusal that may come needs its headers.
func TestHeldHeadForgetsThePayload(t *testing.T) {
	s := &streamtest.Script{OnStart: hold}
	r := rigWith(t, s, nil)
	c := streamtest.NewTCP(t)
	payload := func() weak.Pointer[byte] {
		raw := []byte(`{"response_headers":{"Access-Control-Allow-Origin":"https://a.example"},"prompt":"` +
			strings.Repeat("x", 100<<10) + `"}`)
		p, err := fdrecv.ParsePayload(raw)
		if err != nil {
			t.Fatal(err)
		}
		h := c.Take()
		h.Payload = p
		r.Handoff(0, h)
		return weak.Make(&raw[0])
	}()
	fdtest.Eventually(t, "the payload to be collected", func() bool { runtime.GC(); return payload.Value() == nil })
	r.On(0, func() { s.End(stream.ErrBackend) })
	checkRefusal(t, c.All(), 502, "", "")
}
