package stream

import "time"

// One timer serves what a stream waits for. The heartbeat is lazy: sending only stamps lastSend, and the timer, when
// it fires, looks whether the interval is over. So an event costs no timer operation but the backend's own.

// WakeAt asks for Backend.Wake at a time on the loop's clock, once; a later call replaces it, 0 takes it back.
func (s *Stream) WakeAt(at time.Duration) {
	s.wakeAt = at
	if s.depth == 0 { // else called does it
		s.setTimer()
	}
}

// setTimer sets the timer for the next thing to do.
func (s *Stream) setTimer() {
	if s.phase >= phaseEnding {
		return
	}
	cfg := s.shard.cfg
	next := s.wakeAt
	if cfg.HeartbeatInterval > 0 {
		next = earlier(next, s.lastSend+cfg.HeartbeatInterval)
	}
	if cfg.MaxStreamDuration > 0 {
		next = earlier(next, s.accepted+cfg.MaxStreamDuration)
	}
	if next == 0 || s.timer.Armed() && s.timer.At() <= next {
		return // too early a timer costs one look
	}
	s.shard.loop.Arm(&s.timer, next)
}

// earlier is the earlier of two times, where 0 is none.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// alarm is the stream as a loop.Firer.
type alarm Stream

func (a *alarm) Fire() {
	s := (*Stream)(a)
	now := s.Now()
	cfg := s.shard.cfg
	if cfg.MaxStreamDuration > 0 && now >= s.accepted+cfg.MaxStreamDuration {
		s.begin()
		s.End(ErrDeadline)
		s.called()
		return
	}
	if cfg.HeartbeatInterval > 0 && now >= s.lastSend+cfg.HeartbeatInterval {
		s.heartbeat(now)
	}
	if due := s.wakeAt; due != 0 && due <= now {
		s.wakeAt = 0
		s.wake(due)
		return
	}
	s.setTimer()
}

// wake is call for Backend.Wake, without a closure: the one call of each event.
func (s *Stream) wake(due time.Duration) {
	if !s.callable() {
		return
	}
	s.begin()
	defer s.called()
	s.backend.Wake(due)
}

// heartbeat shows an idle client, and what lies between, that the stream lives. One with bytes waiting needs none,
// and before the head there is none.
func (s *Stream) heartbeat(now time.Duration) {
	s.lastSend = now
	if s.phase != phaseLive || s.conn.Pending() > 0 {
		return
	}
	s.begin()
	s.conn.Queue(heartbeatComment)
	s.done()
}

// Failed: Fire panicked outside the backend (our bug). The stream must not be left without a timer.
func (a *alarm) Failed(err error) { (*Stream)(a).conn.Abort(err, true) }
