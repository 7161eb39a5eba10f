package loop_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// TestWakesForTheNextDeadline: a loop wakes once per tick that has timers, whatever their number, and not for a deadline
// that is far away or was stopped.
func TestWakesForTheNextDeadline(t *testing.T) {
	const ticks, each = 5, 200
	l := newLoop(t)
	deadlines := 0
	done := make(chan struct{})
	left := ticks * each
	far := newFirer(func() { t.Error("an hour has passed") })
	stopped := newFirer(func() { t.Error("a stopped timer fired") })
	on(t, l, func() {
		loop.CountDeadlines(l, &deadlines)
		l.Arm(&far.Timer, l.Now()+time.Hour)
		start := l.Now() + 10*tick
		for i := range ticks * each {
			f := newFirer(func() {
				if left--; left == 0 {
					close(done)
				}
			})
			l.Arm(&f.Timer, start+time.Duration(i%ticks)*2*tick)
		}
		l.Arm(&stopped.Timer, start+tick)
		l.Stop(&stopped.Timer)
	})
	await(t, done, "the timers")
	on(t, l, func() {
		// Two more may be: the stopped one's slot, and the wheel's start of a level, once in 4096 ticks.
		if deadlines < 1 || deadlines > ticks+2 {
			t.Errorf("%d wake-ups for %d ticks with timers", deadlines, ticks)
		}
		deadlines = 0
	})
	turns(t, l, 100)
	on(t, l, func() {
		if deadlines != 0 {
			t.Errorf("%d wake-ups with a deadline in an hour", deadlines)
		}
	})
}

// TestSleepsBetweenDeadlines: a loop that waits for a deadline does not spin, while it holds its P nor after.
func TestSleepsBetweenDeadlines(t *testing.T) {
	l := newLoop(t)
	done := make(chan struct{})
	f := newFirer(func() { close(done) })
	var before, after unix.Rusage
	on(t, l, func() { l.Arm(&f.Timer, l.Now()+1500*time.Millisecond) })
	if err := unix.Getrusage(unix.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	await(t, done, "the timer")
	if err := unix.Getrusage(unix.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if used > 700*time.Millisecond { // a loop that spins uses all of it; one that sleeps, some ten of them
		t.Errorf("%v of CPU in 1.5 s of waiting", used)
	}
}

// TestCoarseTimeouts: where the kernel counts in milliseconds, timers fire all the same, and none early.
func TestCoarseTimeouts(t *testing.T) {
	l := newLoop(t)
	on(t, l, func() { loop.WaitCoarsely(l) })
	for range 20 {
		fired := make(chan time.Duration, 1)
		var f *firer
		f = newFirer(func() { fired <- l.Clock() - f.At() })
		on(t, l, func() { l.Arm(&f.Timer, l.Now()+tick+tick/3) })
		if early := await(t, fired, "the timer"); early < 0 {
			t.Fatalf("fired %v early", -early)
		}
	}
	for timeout, want := range map[time.Duration]int32{
		0: 0, 1: 1, time.Millisecond: 1, time.Millisecond + 1: 2, 1000 * time.Hour: math.MaxInt32, loop.Forever: -1,
	} {
		if got := loop.Milliseconds(timeout); got != want {
			t.Errorf("%v is %d ms, want %d", timeout, got, want)
		}
	}
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
