package stream_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

var errOther = errors.New("something secret")

// An error of Start refuses the client, and no Stop follows.
func TestStartError(t *testing.T) {
	tests := []struct {
		name       string
		err        error
		status     int
		message    string
		retryAfter string
	}{
		{"refusal", &stream.Refusal{Status: 429, Message: "slow down", RetryAfter: 1100 * time.Millisecond}, 429, "slow down", "2"},
		{"wrapped refusal", fmt.Errorf("backend: %w", &stream.Refusal{Status: 404, Message: "no such model"}), 404, "no such model", ""},
		{"malformed", fmt.Errorf("%w: no prompt", fdrecv.ErrMalformed), 400, "no prompt", ""},
		{"backend", fmt.Errorf("%w: %w", stream.ErrBackend, errOther), 502, "the backend failed", ""},
		{"other", errOther, 500, "internal error", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &streamtest.Script{OnStart: func(s *streamtest.Script, p fdrecv.Payload) error {
				s.Out.WakeAt(s.Out.Now() + 1)
				return tt.err
			}}
			r := rigWith(t, s, nil)
			got := r.TCP(corsPayload).All()
			checkRefusal(t, got, tt.status, tt.message, tt.retryAfter)
			if strings.Contains(got, "secret") {
				t.Errorf("an inner error reached the client: %q", got)
			}
			after(t, r, 2*loop.TickLength)
			if calls := s.Calls(); !slices.Equal(calls, []string{"start"}) {
				t.Errorf("calls %v", calls)
			}
			if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, tt.err) || end.Events != 0 {
				t.Errorf("end %+v", end)
			}
		})
	}
}

// After an event there is no status any more: the error is an event.
func TestStartErrorAfterAnEvent(t *testing.T) {
	s := &streamtest.Script{OnStart: func(s *streamtest.Script, p fdrecv.Payload) error {
		s.Send(one)
		return &stream.Refusal{Status: 429, Message: "slow down", RetryAfter: 2 * time.Second}
	}}
	r := rigWith(t, s, nil)
	want := head + one + "event: error\nretry: 2000\ndata: {\"error\":{\"message\":\"slow down\"}}\n\n"
	if got := r.TCP("").All(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// untilPaused sends until no more is welcome.
func untilPaused(s *streamtest.Script) {
	for s.Send(one) {
	}
}

// Goal: a panic in any callback ends this stream only: as 500 with the payload's headers before anything was sent, as
// an error event without [DONE] afterwards; Stop is still called, once, with ErrPanic. Method: each callback panics in
// turn, while another stream on the loop goes on.
func TestPanic(t *testing.T) {
	boom := func(*streamtest.Script) { panic("boom") }
	tests := []struct {
		name   string
		script *streamtest.Script
		act    func(r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client)
		status int    // 0: the head had been sent
		want   string // behind the head, at its end
	}{
		{name: "start", status: 500, script: &streamtest.Script{
			OnStart: func(*streamtest.Script, fdrecv.Payload) error { panic("boom") }}},
		{name: "start, after an event", want: one + internal, script: &streamtest.Script{
			OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Send(one); panic("boom") }}},
		{name: "start, head held", status: 500, script: &streamtest.Script{
			OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.HoldHead(); panic("boom") }}},
		{name: "wake", want: internal, script: &streamtest.Script{
			OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(1); return nil },
			OnWake:  func(s *streamtest.Script, _ time.Duration) { boom(s) }}},
		{name: "pause", want: internal, script: &streamtest.Script{
			OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(1); return nil },
			OnWake:  func(s *streamtest.Script, _ time.Duration) { untilPaused(s) },
			OnPause: boom}},
		{name: "resume", want: internal, script: &streamtest.Script{
			OnStart:  func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(1); return nil },
			OnWake:   func(s *streamtest.Script, _ time.Duration) { untilPaused(s) },
			OnResume: boom}},
		{name: "drain", want: internal, script: &streamtest.Script{OnDrain: boom},
			act: func(r *streamtest.Rig, _ *streamtest.Script, _ *streamtest.Client) { r.Server.Drain() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r *streamtest.Rig
			s, other, makes := tt.script, &streamtest.Script{}, 0
			r = streamtest.New(t, 1, func(c *stream.Config) {
				c.NewBackend = func(l *loop.Loop) stream.Backend {
					if makes++; makes == 1 {
						return other.Maker(&r)(l)
					}
					return s.Maker(&r)(l)
				}
			})
			bystander := r.TCP("")
			bystander.Until(head)
			c := r.TCP(corsPayload)
			if tt.act != nil {
				tt.act(r, s, c)
			}
			got := c.All()
			if tt.status != 0 {
				checkRefusal(t, got, tt.status, "internal error", "")
			} else if !strings.HasSuffix(got, tt.want) || strings.Contains(got, done) {
				t.Errorf("got %.300q … %q, want the end %q", got, got[max(0, len(got)-200):], tt.want)
			}
			fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
			if err := s.Cause(); !errors.Is(err, stream.ErrPanic) {
				t.Errorf("Stop(%v), want ErrPanic", err)
			}
			if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, stream.ErrPanic) {
				t.Errorf("end %+v", end)
			}
			if log := r.Log.String(); !strings.Contains(log, "panic=boom") || !strings.Contains(log, "contract_test.go") {
				t.Errorf("no panic with its stack in %q", log)
			}
			r.On(0, func() { other.Send(two); other.End(nil) })
			if got := bystander.All(); got != head+two+done {
				t.Errorf("the other stream: %q", got)
			}
		})
	}
}

// A panic in Stop is nobody's but ours to see.
func TestPanicInStop(t *testing.T) {
	s := &streamtest.Script{OnStop: func(*streamtest.Script, error) { panic("boom") }}
	r := rigWith(t, s, nil)
	c := r.TCP("")
	r.On(0, func() { s.Send(one); s.End(nil) })
	if got := c.All(); got != head+one+done {
		t.Errorf("got %q", got)
	}
	fdtest.Eventually(t, "a log line", func() bool { return strings.Contains(r.Log.String(), "panic=boom") })
}

// A maker that panics, or makes nothing, must not leave its client hanging: there is no backend that would ever end.
func TestPanicInMaker(t *testing.T) {
	makers := map[string]stream.Maker{
		"panic": func(*loop.Loop) stream.Backend { panic("boom") },
		"nil":   func(*loop.Loop) stream.Backend { return nil },
	}
	for name, m := range makers {
		t.Run(name, func(t *testing.T) {
			r := streamtest.New(t, 1, func(c *stream.Config) { c.NewBackend = m })
			checkRefusal(t, r.TCP(corsPayload).All(), 500, "internal error", "")
		})
	}
}

// Goal: Stop comes exactly once on every path, with the cause, and Config.Ended hears the same. (Script checks the
// count, and that nothing comes after it or from inside a Send or End.)
func TestStopOnceWithItsCause(t *testing.T) {
	refusal := &stream.Refusal{Status: 502, Message: "upstream broke"}
	block := func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(1); return nil }
	fill := func(s *streamtest.Script, _ time.Duration) { untilPaused(s) }
	more := func(s *streamtest.Script) { untilPaused(s) } // the kernel took what there was: go on until it does not
	tests := []struct {
		name   string
		change func(*stream.Config)
		script *streamtest.Script
		act    func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client)
		want   error
		tail   string // what the client reads last; "": not looked at
	}{
		{name: "end in start", tail: one + done, script: &streamtest.Script{
			OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Send(one); s.End(nil); return nil }}},
		{name: "end in wake", tail: head + done, script: &streamtest.Script{OnStart: block,
			OnWake: func(s *streamtest.Script, _ time.Duration) { s.End(nil) }}},
		{name: "end from outside", tail: one + done,
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) {
				r.On(0, func() { s.Send(one); s.End(nil) })
			}},
		{name: "end twice", tail: one + done,
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) {
				r.On(0, func() {
					s.Send(one)
					s.End(nil)
					s.End(errOther)
					if s.Send(two) {
						t.Error("Send after End says that more is welcome")
					}
				})
			}},
		{name: "end with an error", want: errOther, tail: head + internal,
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) {
				r.On(0, func() { s.End(errOther) })
			}},
		{name: "end with a refusal", want: refusal, tail: "event: error\ndata: {\"error\":{\"message\":\"upstream broke\"}}\n\n",
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) {
				r.On(0, func() { s.End(refusal) })
			}},
		{name: "end while the client is slow", tail: one + done, script: &streamtest.Script{OnStart: block, OnWake: fill,
			OnPause: func(s *streamtest.Script) { s.End(nil) }}},
		{name: "hangup", want: conn.ErrHangup,
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) { _ = c.Close() }},
		{name: "send to a client that is gone", want: conn.ErrHangup,
			change: func(c *stream.Config) {
				k := &streamtest.Kernel{}
				sends := 0
				k.Take = func(_, n int) (int, error) {
					if sends++; sends > 1 {
						return 0, unix.EPIPE
					}
					return n, nil
				}
				c.Conn.Kernel = k
			},
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) {
				r.On(0, func() {
					if s.Send(one) || s.Send(two) {
						t.Error("more is welcome by a client that is gone")
					}
					s.End(nil)
				})
			}},
		{name: "end to a client that is gone", want: conn.ErrHangup,
			change: func(c *stream.Config) {
				k := &streamtest.Kernel{Take: func(_, n int) (int, error) { return 0, unix.EPIPE }}
				c.Conn.Kernel = k
			},
			script: &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.End(nil); return nil }}},
		{name: "write timeout", want: conn.ErrWriteTimeout,
			change: func(c *stream.Config) { c.Conn.WriteTimeout = 30 * time.Millisecond },
			script: &streamtest.Script{OnStart: block, OnWake: fill, OnResume: more}},
		{name: "evicted", want: conn.ErrEvicted,
			change: func(c *stream.Config) {
				k := &streamtest.Kernel{}
				sends := 0
				k.Take = func(_, n int) (int, error) {
					if sends++; sends > 1 {
						return 0, unix.EAGAIN
					}
					return n, nil
				}
				c.Conn.Kernel, c.MaxPendingBytes = k, 1000
			},
			script: &streamtest.Script{OnStart: block, OnWake: fill}},
		{name: "too much input", want: conn.ErrInput,
			change: func(c *stream.Config) { c.Conn.InputMax = 10 },
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) {
				_, _ = c.Write(make([]byte, 11))
			}},
		{name: "deadline", want: stream.ErrDeadline,
			tail:   "event: error\ndata: {\"error\":{\"message\":\"the stream reached its maximum duration\"}}\n\n",
			change: func(c *stream.Config) { c.MaxStreamDuration = 20 * time.Millisecond }},
		{name: "cut", want: stream.ErrCut, tail: "data: {\"error\":{\"message\":\"the server is shutting down\"}}\n\n",
			act: func(t *testing.T, r *streamtest.Rig, s *streamtest.Script, c *streamtest.Client) { r.Server.Cut(0) }},
	}
	for _, tt := range tests {
		for kind, newClient := range streamtest.Kinds {
			t.Run(tt.name+"/"+kind, func(t *testing.T) {
				script := tt.script.Again()
				r := rigWith(t, script, tt.change)
				c := newClient(t)
				r.Handoff(0, c.Take())
				if tt.act != nil {
					tt.act(t, r, script, c)
				}
				if tt.tail != "" {
					if got := c.All(); !strings.HasSuffix(got, tt.tail) {
						t.Errorf("got … %q, want the end %q", got[max(0, len(got)-200):], tt.tail)
					}
				}
				fdtest.Eventually(t, "Stop", func() bool { return script.Called("stop") == 1 })
				if err := script.Cause(); !errors.Is(err, tt.want) || (err == nil) != (tt.want == nil) {
					t.Errorf("Stop(%v), want %v", err, tt.want)
				}
				if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, tt.want) || (end.Cause == nil) != (tt.want == nil) {
					t.Errorf("Ended(%v), want %v", end.Cause, tt.want)
				}
			})
		}
	}
}

// The end of a stream that the client did not live to see is not counted as one that went well.
func TestCauseWhenTheTailIsLost(t *testing.T) {
	g := newGate()
	s := &streamtest.Script{}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn.Kernel = g })
	c := r.TCP("")
	c.Until(head)
	r.On(0, func() { g.shut.Store(true); s.Send(one); s.End(nil) })
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	if err := s.Cause(); err != nil {
		t.Errorf("Stop(%v) after the backend's own End", err)
	}
	_ = c.Close()
	if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, conn.ErrHangup) || end.Bytes != uint64(len(head)) {
		t.Errorf("end %+v", end)
	}
}

// Goal: no callback but Stop comes after End. Method: a wake is due at the end of the very turn in which the stream is
// ended from outside, while Stop is posted for the next one.
func TestNothingButStopAfterEnd(t *testing.T) {
	s := &streamtest.Script{}
	r := rigWith(t, s, nil)
	r.TCP("").Until(head)
	r.On(0, func() {
		s.Out.WakeAt(s.Out.Now() + 20*time.Millisecond)
		for l := s.Out.Loop(); l.Clock() < l.Now()+40*time.Millisecond; { // a turn that takes longer than the wake is away
		}
		s.End(nil)
	})
	after(t, r, 3*loop.TickLength)
	if calls := s.Calls(); !slices.Equal(calls, []string{"start", "stop"}) {
		t.Errorf("calls %v", calls)
	}
}

// Goal: Pause and Resume come in turns, Pause first, when the client is slow, and what waits stays within the
// watermarks. Method: a backend that sends at each Resume, a client that reads to the end.
func TestPauseResumeInTurns(t *testing.T) {
	const high, low, rounds = 4096, 1024, 20
	s := &streamtest.Script{}
	resumes := 0
	s.OnStart = func(s *streamtest.Script, _ fdrecv.Payload) error { untilPaused(s); return nil }
	s.OnResume = func(s *streamtest.Script) {
		if resumes++; resumes == rounds {
			s.End(nil)
			return
		}
		untilPaused(s)
	}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn.High, c.Conn.Low = high, low })
	c := streamtest.NewUnix(t)
	if err := unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10); err != nil {
		t.Fatal(err)
	}
	r.Handoff(0, c.Take())
	fdtest.Eventually(t, "a pause", func() bool { return s.Called("pause") == 1 })
	if n := r.Server.Counts(); n.Paused != 1 || n.Pending < high || n.Pending > high+int64(len(one)) {
		t.Errorf("counts %+v", n)
	}
	if got := c.All(); !strings.HasSuffix(got, one+done) || (len(got)-len(head)-len(done))%len(one) != 0 {
		t.Errorf("%d bytes, end %q", len(got), got[max(0, len(got)-60):])
	}
	want := []string{"start"}
	for range rounds {
		want = append(want, "pause", "resume")
	}
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	if calls := s.Calls(); !slices.Equal(calls, append(want, "stop")) {
		t.Errorf("calls %v", calls)
	}
}

// Goal: who stops at a Send that says no more is welcome is resumed, even when the client has caught up before the
// Pause could be told. Method: sending from outside a callback, so that the Pause is posted; the kernel takes bytes
// again by the next turn, whose readiness comes before its posted functions.
func TestPauseIsNotSwallowed(t *testing.T) {
	g := newGate()
	s := &streamtest.Script{}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn = conn.Config{Kernel: g, High: 100, Low: 10} })
	c := r.TCP("")
	c.Until(head)
	r.On(0, func() {
		g.shut.Store(true)
		untilPaused(s)
		g.shut.Store(false)
	})
	fdtest.Eventually(t, "Resume", func() bool { return s.Called("resume") == 1 })
	if calls := s.Calls(); !slices.Equal(calls, []string{"start", "pause", "resume"}) {
		t.Errorf("calls %v", calls)
	}
}

// Goal: sending on while paused, from outside a callback, loses nothing, and posts one look at what to tell, not one per
// event: each post allocates.
func TestSendOnWhilePaused(t *testing.T) {
	const sends = 1000
	g := newGate()
	s := &streamtest.Script{}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn = conn.Config{Kernel: g, High: 100, Low: 10} })
	c := r.TCP("")
	c.Until(head)
	r.On(0, func() {
		g.shut.Store(true)
		untilPaused(s)
		event := []byte(one)
		if n := testing.AllocsPerRun(sends, func() { s.Out.Send(event) }); n >= 1 {
			t.Errorf("%v allocations per event", n)
		}
		g.shut.Store(false)
		s.End(nil)
	})
	got := c.All()
	n := int(r.AwaitEnds(1)[0].Events)
	if want := head + strings.Repeat(one, n) + done; got != want || n <= sends {
		t.Errorf("%d bytes, want %d: nothing is lost but by the end of the stream", len(got), len(want))
	}
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	if calls := s.Calls(); !slices.Equal(calls, []string{"start", "stop"}) {
		t.Errorf("calls %v", calls)
	}
}

// What a backend sends in one callback leaves in one write.
func TestOneWritePerCallback(t *testing.T) {
	k := &streamtest.Kernel{}
	s := &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error {
			s.Send(one)
			s.Send(two)
			s.Out.WakeAt(1)
			return nil
		},
		OnWake: func(s *streamtest.Script, _ time.Duration) { s.Send(two); s.Send(one); s.End(nil) },
	}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn.Kernel = k })
	c := r.TCP("")
	c.All()
	if got, want := k.Writes(c.FD), []string{head + one + two, two + one + done}; !slices.Equal(got, want) {
		t.Errorf("writes %q, want %q", got, want)
	}
}

// What is sent within Together leaves in one write, wherever it is called from.
func TestTogether(t *testing.T) {
	k := &streamtest.Kernel{}
	s := &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error {
			s.Send(one)
			return s.Out.Loop().Post(func() { // as a backend's own I/O calls it
				s.Out.Together(func() { s.Send(two); s.Send(one); s.End(nil) })
			})
		},
	}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn.Kernel = k })
	c := r.TCP("")
	c.All()
	if got, want := k.Writes(c.FD), []string{head + one, two + one + done}; !slices.Equal(got, want) {
		t.Errorf("writes %q, want %q", got, want)
	}
}

// A panic below a Send (our own bug, here a kernel's) costs the stream that it hits, as one in the backend does; what
// was being sent is lost, the client is told.
func TestPanicBelowSend(t *testing.T) {
	k := &streamtest.Kernel{}
	sends := 0
	k.Take = func(_, n int) (int, error) {
		if sends++; sends == 2 {
			panic("boom")
		}
		return n, nil
	}
	s := &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.WakeAt(1); return nil },
		OnWake:  func(s *streamtest.Script, _ time.Duration) { s.Out.Send(make([]byte, 64<<10)) },
	}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn.Kernel = k })
	if got := r.TCP("").All(); !strings.HasSuffix(got, internal) {
		t.Errorf("got … %q", got[max(0, len(got)-200):])
	}
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	if err := s.Cause(); !errors.Is(err, stream.ErrPanic) {
		t.Errorf("Stop(%v)", err)
	}
}

// The first cause is the one that counts: a client that leaves over an error was not the reason for it.
func TestFirstCauseCounts(t *testing.T) {
	g := newGate()
	s := &streamtest.Script{}
	r := rigWith(t, s, func(c *stream.Config) { c.Conn.Kernel = g })
	c := r.TCP("")
	c.Until(head)
	r.On(0, func() { g.shut.Store(true); s.End(errOther) })
	_ = c.Close()
	if end := r.AwaitEnds(1)[0]; !errors.Is(end.Cause, errOther) {
		t.Errorf("end %+v", end)
	}
	fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
	if err := s.Cause(); !errors.Is(err, errOther) {
		t.Errorf("Stop(%v)", err)
	}
}
