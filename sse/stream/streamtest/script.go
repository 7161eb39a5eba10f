package streamtest

import (
	"slices"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
)

// Script is a backend made of funcs; a missing one does nothing. It notes every call, and fails the test when it is
// called from inside a method of the Stream, after Stop, or not stopped exactly once.
type Script struct {
	OnStart  func(s *Script, p fdrecv.Payload) error
	OnWake   func(s *Script, due time.Duration)
	OnPause  func(s *Script)
	OnResume func(s *Script)
	OnDrain  func(s *Script)
	OnStop   func(s *Script, cause error)

	Out *stream.Stream // set from Start on; loop goroutine only

	inside bool // a method of Out is running; loop goroutine only
	mu     sync.Mutex
	calls  []string
	faults []string
	cause  error
	failed bool // Start gave an error: no Stop follows
}

// Maker gives a maker of this very script, for one stream only.
func (s *Script) Maker(r **Rig) stream.Maker {
	return func(*loop.Loop) stream.Backend { (*r).Watch(s); return s }
}

// Again is a new script with the funcs of s, or with none when s is nil.
func (s *Script) Again() *Script {
	if s == nil {
		return &Script{}
	}
	return &Script{OnStart: s.OnStart, OnWake: s.OnWake, OnPause: s.OnPause, OnResume: s.OnResume, OnDrain: s.OnDrain, OnStop: s.OnStop}
}

// Watch makes the end of the test check s.
func (r *Rig) Watch(s *Script) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.scripts = append(r.scripts, s)
}

// Send is Out.Send, guarded.
func (s *Script) Send(event string) bool {
	defer s.guard()()
	return s.Out.Send([]byte(event))
}

// End is Out.End, guarded.
func (s *Script) End(err error) {
	defer s.guard()()
	s.Out.End(err)
}

// SendHead is Out.SendHead, guarded.
func (s *Script) SendHead() {
	defer s.guard()()
	s.Out.SendHead()
}

func (s *Script) guard() (undo func()) {
	was := s.inside
	s.inside = true
	return func() { s.inside = was }
}

// Calls are the names of the calls so far.
func (s *Script) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// Called reports how often a call was made.
func (s *Script) Called(name string) (n int) {
	for _, c := range s.Calls() {
		if c == name {
			n++
		}
	}
	return n
}

// Cause is what Stop was told.
func (s *Script) Cause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

func (s *Script) note(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inside {
		s.faults = append(s.faults, name+" from inside a method of the Stream")
	}
	if n := len(s.calls); n > 0 && s.calls[n-1] == "stop" {
		s.faults = append(s.faults, name+" after stop")
	}
	s.calls = append(s.calls, name)
}

func (s *Script) check(t testing.TB) {
	for _, f := range s.faults {
		t.Errorf("backend: %s (%v)", f, s.calls)
	}
	want := 1
	if s.failed {
		want = 0
	}
	if n := s.Called("stop"); n != want && len(s.Calls()) > 0 {
		t.Errorf("stop was called %d times, want %d: %v", n, want, s.Calls())
	}
}

func (s *Script) Start(p fdrecv.Payload, out *stream.Stream) (err error) {
	s.note("start")
	s.Out = out
	if s.OnStart != nil {
		err = s.OnStart(s, p)
	}
	s.failed = err != nil
	return err
}

func (s *Script) Wake(due time.Duration) {
	s.note("wake")
	if s.OnWake != nil {
		s.OnWake(s, due)
	}
}

func (s *Script) Pause() {
	s.note("pause")
	if s.OnPause != nil {
		s.OnPause(s)
	}
}

func (s *Script) Resume() {
	s.note("resume")
	if s.OnResume != nil {
		s.OnResume(s)
	}
}

func (s *Script) Drain() {
	s.note("drain")
	if s.OnDrain != nil {
		s.OnDrain(s)
	}
}

func (s *Script) Stop(cause error) {
	s.note("stop")
	s.mu.Lock()
	s.cause = cause
	s.mu.Unlock()
	if s.OnStop != nil {
		s.OnStop(s, cause)
	}
}
