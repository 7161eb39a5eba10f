package stream_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// Goal: an idle stream shows a sign of life each interval, no earlier than the interval after its last event, and as
// a write of its own; it is no event.
func TestHeartbeatWhenIdle(t *testing.T) {
	const interval = 40 * time.Millisecond
	s := &streamtest.Script{}
	r := rigWith(t, s, func(c *stream.Config) { c.HeartbeatInterval = interval })
	c := r.TCP("")
	if got := c.Until(heartbeat + heartbeat); got != head+heartbeat+heartbeat {
		t.Errorf("got %q", got)
	}
	var sent time.Time
	r.On(0, func() { c.Got = ""; sent = time.Now(); s.Send(one) })
	c.Until(one)
	c.Got = strings.SplitN(c.Got, one, 2)[1]
	if c.Until(heartbeat); time.Since(sent) < interval {
		t.Errorf("a heartbeat %v after an event, want %v at the earliest", time.Since(sent), interval)
	}
	r.On(0, func() { s.End(nil) })
	c.All()
	if end := r.AwaitEnds(1)[0]; end.Events != 1 {
		t.Errorf("%d events, want 1: a heartbeat is none", end.Events)
	}
}

// Goal: a stream that sends within the interval has no heartbeat. The interval is much longer than the gaps, so that a
// stalled machine does not matter, and shorter than the whole, so that a missing stamp does.
func TestNoHeartbeatWhenBusy(t *testing.T) {
	const interval, gap, n = 600 * time.Millisecond, 20 * time.Millisecond, 50
	left := n
	s := &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(s.Out.Now() + gap); return nil },
		OnWake: func(s *streamtest.Script, due time.Duration) {
			s.Send(one)
			if left--; left == 0 {
				s.End(nil)
				return
			}
			s.Out.WakeAt(due + gap)
		},
	}
	r := rigWith(t, s, func(c *stream.Config) { c.HeartbeatInterval = interval })
	if got, want := r.TCP("").All(), head+strings.Repeat(one, n)+done; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Goal: no heartbeat before the head, none for a client with bytes waiting; SendHead lets them go out.
func TestHeartbeatNeedsAHeadAndRoom(t *testing.T) {
	const interval = 10 * time.Millisecond
	g := newGate()
	s := &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.HoldHead(); return nil }}
	r := rigWith(t, s, func(c *stream.Config) { c.HeartbeatInterval, c.Conn.Kernel = interval, g })
	c := r.TCP("")
	after(t, r, 5*interval)
	c.Nothing()
	r.On(0, s.SendHead)
	if got := c.Until(heartbeat); got != head+heartbeat {
		t.Errorf("got %q", got)
	}
	r.On(0, func() { g.shut.Store(true); s.Send(one) })
	waiting := r.Server.Counts().Pending // the event, and a heartbeat that came just before it at most
	after(t, r, 5*interval)
	if n := r.Server.Counts().Pending; n != waiting || n == 0 {
		t.Errorf("%d bytes wait, want %d: a client that reads nothing needs no heartbeat", n, waiting)
	}
	g.shut.Store(false)
	c.Got = ""
	c.Until(heartbeat)
}

// The maximum duration counts from the handoff, whether the stream is idle or busy.
func TestMaxStreamDuration(t *testing.T) {
	const limit = 60 * time.Millisecond
	busy := &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(s.Out.Now()); return nil },
		OnWake:  func(s *streamtest.Script, due time.Duration) { s.Send(one); s.Out.WakeAt(due + limit/10) },
	}
	for name, s := range map[string]*streamtest.Script{"idle": {}, "busy": busy} {
		t.Run(name, func(t *testing.T) {
			r := rigWith(t, s, func(c *stream.Config) { c.MaxStreamDuration = limit })
			got := r.TCP("").All()
			if strings.Contains(got, done) || !strings.HasSuffix(got, "maximum duration\"}}\n\n") {
				t.Errorf("got %q", got)
			}
			if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, stream.ErrDeadline) || end.Duration < limit {
				t.Errorf("end %+v", end)
			}
		})
	}
}

// WakeAt: one wake per call, at or after its time, with that time; a later call replaces an earlier one, 0 takes it
// back, inside callbacks and outside. Method: a second timer of the loop that is set for later shows what did not come.
func TestWakeAt(t *testing.T) {
	const ms = time.Millisecond
	const far = time.Hour
	var asked time.Duration // loop clock: when WakeAt was called
	tests := []struct {
		name  string
		calls []time.Duration // from asked on; take back: 0
		want  []time.Duration // dues, likewise
	}{
		{"once", []time.Duration{20 * ms}, []time.Duration{20 * ms}},
		{"later", []time.Duration{20 * ms, 40 * ms}, []time.Duration{40 * ms}},
		{"earlier", []time.Duration{far, 20 * ms}, []time.Duration{20 * ms}},
		{"never", []time.Duration{20 * ms, 0}, nil},
		{"back and forth", []time.Duration{20 * ms, 0, 30 * ms}, []time.Duration{30 * ms}},
		{"past", []time.Duration{-1}, []time.Duration{-1}},
	}
	for _, tt := range tests {
		for _, inside := range []bool{true, false} {
			t.Run(tt.name+map[bool]string{true: " inside", false: " outside"}[inside], func(t *testing.T) {
				var dues []time.Duration
				ask := func(s *streamtest.Script) {
					asked = s.Out.Now()
					for _, d := range tt.calls {
						if d != 0 {
							d += asked
						}
						s.Out.WakeAt(d)
					}
				}
				s := &streamtest.Script{OnWake: func(s *streamtest.Script, due time.Duration) {
					if s.Out.Now() < due {
						t.Errorf("at %v for %v: early", s.Out.Now(), due)
					}
					dues = append(dues, due-asked)
				}}
				if inside {
					s.OnStart = func(s *streamtest.Script, _ fdrecv.Payload) error { ask(s); return nil }
				}
				r := rigWith(t, s, nil)
				r.TCP("")
				if !inside {
					r.On(0, func() { ask(s) })
				}
				after(t, r, 60*ms)
				r.On(0, func() {
					if !slices.Equal(dues, tt.want) {
						t.Errorf("woken for %v, want %v", dues, tt.want)
					}
				})
			})
		}
	}
}

// A wake inside a wake, on a grid, beside heartbeats and a deadline on the same timer.
func TestWakeAtOnAGrid(t *testing.T) {
	const step, n = 15 * time.Millisecond, 10
	var dues []time.Duration
	s := &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(s.Out.Now() + step); return nil },
		OnWake: func(s *streamtest.Script, due time.Duration) {
			if dues = append(dues, due); len(dues) == n {
				s.End(nil)
				return
			}
			s.Out.WakeAt(due + step)
		},
	}
	r := rigWith(t, s, func(c *stream.Config) {
		c.HeartbeatInterval, c.MaxStreamDuration = 4*time.Millisecond, time.Hour
	})
	got := r.TCP("").All()
	r.On(0, func() {
		for i := 1; i < len(dues); i++ {
			if dues[i]-dues[i-1] != step {
				t.Errorf("dues %v are no grid", dues)
			}
		}
		if len(dues) != n || !strings.Contains(got, heartbeat) {
			t.Errorf("%d wakes, want %d; stream %q", len(dues), n, got)
		}
	})
}

// The timer of a stream that is over fires no more, and a wake that was due in the turn of the hangup does not come.
func TestNoWakeAfterHangup(t *testing.T) {
	s := &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error {
		s.Out.WakeAt(s.Out.Now() + 30*time.Millisecond)
		return nil
	}}
	r := rigWith(t, s, func(c *stream.Config) { c.HeartbeatInterval = 10 * time.Millisecond })
	_ = r.TCP("").Close()
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	r.On(0, func() { s.Out.WakeAt(s.Out.Now() + loop.TickLength) })
	after(t, r, 50*time.Millisecond)
	if calls := s.Calls(); !slices.Equal(calls, []string{"start", "stop"}) {
		t.Errorf("calls %v", calls)
	}
}
