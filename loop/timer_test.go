package loop_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/loop"
)

// TestTimersFire: through the real loop, none early, none lost, each once, some re-arming themselves.
func TestTimersFire(t *testing.T) {
	const count = 2000
	l := newLoop(t)
	done := make(chan struct{})
	left := count
	rng := rand.New(rand.NewPCG(3, 4))
	on(t, l, func() {
		for range count {
			var f *firer
			rearm := rng.IntN(2)
			f = newFirer(func() {
				if now := l.Clock(); now < f.At() || l.Now() < f.At() || now < l.Now() {
					t.Errorf("fired at %v, turn of %v, deadline %v", now, l.Now(), f.At())
				}
				if f.Armed() {
					t.Error("armed while it fires")
				}
				if rearm--; rearm >= 0 {
					l.Arm(&f.Timer, l.Now()+time.Duration(rng.Int64N(int64(50*time.Millisecond))))
					return
				}
				if left--; left == 0 {
					close(done)
				}
			})
			l.Arm(&f.Timer, l.Now()+time.Duration(rng.Int64N(int64(200*time.Millisecond))))
		}
	})
	await(t, done, "the last timer")
	on(t, l, func() {
		if left != 0 {
			t.Errorf("%d fired too often", -left)
		}
	})
}

// TestStopAndMove: a stopped timer does not fire; a moved one fires once, at its new deadline, be it earlier or later.
func TestStopAndMove(t *testing.T) {
	l := newLoop(t)
	fired := make(chan string, 10)
	named := func(name string) *firer { return newFirer(func() { fired <- name }) }
	stopped, earlier, later := named("stopped"), named("earlier"), named("later")
	on(t, l, func() {
		now := l.Now()
		l.Arm(&stopped.Timer, now+2*tick)
		l.Arm(&earlier.Timer, now+time.Hour)
		l.Arm(&later.Timer, now+tick)
		l.Arm(&earlier.Timer, now+3*tick)
		l.Arm(&later.Timer, now+6*tick)
		l.Stop(&stopped.Timer)
		l.Stop(&stopped.Timer)
	})
	for _, want := range []string{"earlier", "later"} {
		if name := await(t, fired, want); name != want {
			t.Fatalf("%s fired, want %s", name, want)
		}
	}
	turns(t, l, 2)
	if len(fired) != 0 {
		t.Fatalf("%s fired", <-fired)
	}
}

// TestAlarmIsForTheNextDeadline: the timerfd wakes the loop once per tick that has timers, whatever their number; it is
// set for the nearest of them, and off when there is none.
func TestAlarmIsForTheNextDeadline(t *testing.T) {
	const ticks, each = 5, 200
	l := newLoop(t)
	var timerFD, alarms int
	done, over := make(chan struct{}), make(chan struct{})
	left := ticks * each
	far := newFirer(func() { t.Error("an hour has passed") })
	on(t, l, func() {
		timerFD = loop.LoopFDs(l)[2]
		loop.CountAlarms(l, &alarms)
		l.Arm(&far.Timer, l.Now()+time.Hour)
	})
	turns(t, l, 1)
	if remains := timerRemains(t, timerFD); remains < 40*time.Minute || remains > time.Hour+tick {
		// An hour waits on level 2, whose slots of 2^20 ticks (17 minutes) are emptied when they begin.
		t.Errorf("set for %v from now, with a deadline in an hour", remains)
	}
	on(t, l, func() {
		start := l.Now() + 10*tick
		for i := range ticks * each {
			f := newFirer(func() {
				if left--; left == 0 {
					close(done)
				}
			})
			l.Arm(&f.Timer, start+time.Duration(i%ticks)*2*tick)
		}
	})
	turns(t, l, 1)
	if remains := timerRemains(t, timerFD); remains > 12*tick {
		t.Errorf("set for %v from now, with a deadline in %v", remains, 10*tick)
	}
	await(t, done, "the timers")
	turns(t, l, 2)
	on(t, l, func() {
		// One more may be: the wheel's start of a level, once in 4096 ticks.
		if alarms < 1 || alarms > ticks+1 {
			t.Errorf("%d alarms for %d ticks with timers", alarms, ticks)
		}
		l.Stop(&far.Timer)
		last := newFirer(func() { close(over) }) // its alarm is the occasion to find that nothing is left
		l.Arm(&last.Timer, l.Now())
	})
	await(t, over, "the last timer")
	turns(t, l, 2) // the second begins after the alarm of the turn that fired was set
	if remains := timerRemains(t, timerFD); remains != 0 {
		t.Errorf("set for %v from now without a timer", remains)
	}
	on(t, l, func() { alarms = 0 })
	turns(t, l, 100) // turns without timers set no alarm
	on(t, l, func() {
		if alarms != 0 {
			t.Errorf("%d alarms without a timer", alarms)
		}
	})
}

// timerRemains is how long until a timerfd rings, 0 when it is off; proc(5).
func timerRemains(t *testing.T, fd int) time.Duration {
	t.Helper()
	text := fdInfo(t, fd, "it_value") // (seconds, nanoseconds)
	s, ns, ok := strings.Cut(strings.Trim(text, "()"), ", ")
	seconds, err1 := strconv.ParseInt(s, 10, 64)
	nanos, err2 := strconv.ParseInt(ns, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		t.Fatalf("it_value %q", text)
	}
	return time.Duration(seconds)*time.Second + time.Duration(nanos)
}

// TestTimersDoNotStarveSources: after a stall thousands of timers are due at once; a source that becomes readable is
// served after one turn's share of them.
func TestTimersDoNotStarveSources(t *testing.T) {
	const count = 5*loop.TurnTimers + 7
	l := newLoop(t)
	near, far := socketPair(t)
	fired := 0
	served, done := make(chan int, 1), make(chan struct{})
	p := &probe{onReadable: func(p *probe) {
		readAll(p.FD())
		served <- fired
	}}
	attach(t, l, p, near)
	on(t, l, func() {
		for range count {
			f := newFirer(func() {
				if fired++; fired == 1 {
					write(t, far, "x")
				}
				if fired == count {
					close(done)
				}
			})
			l.Arm(&f.Timer, 0)
		}
	})
	if n := await(t, served, "the source"); n != loop.TurnTimers {
		t.Errorf("served after %d timers, want %d", n, loop.TurnTimers)
	}
	await(t, done, "all timers: those over the budget need no further occasion")
}
