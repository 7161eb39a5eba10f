package loop_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"streaming-daemon-go/loop"
)

const tick = loop.TickLength

func ignoreTimer(*loop.Timer) {}

func TestWheelFiresAtTheEndOfTheTick(t *testing.T) {
	tests := []struct {
		name   string
		at     time.Duration
		before time.Duration // Advance to here fires nothing
		after  time.Duration // and to here fires it
	}{
		{"on a tick", 2 * tick, 2*tick - 1, 2 * tick},
		{"just after a tick", tick + 1, 2*tick - 1, 2 * tick},
		{"now", 0, tick - 1, tick},
		{"past", -time.Hour, tick - 1, tick},
		{"last slot of level 0", 255 * tick, 255*tick - 1, 255 * tick},
		{"first of level 1", 256 * tick, 256*tick - 1, 256 * tick},
		{"inside level 1", 1000 * tick, 1000*tick - 1, 1000 * tick},
		{"first of level 2", 65536 * tick, 65536*tick - 1, 65536 * tick},
		{"inside level 2", 70000*tick + 1, 70001*tick - 1, 70001 * tick},
		{"first of level 3", 1 << 24 * tick, 1<<24*tick - 1, 1 << 24 * tick},
		{"at the horizon", loop.Horizon, loop.Horizon - 1, loop.Horizon},
		{"beyond the horizon", 2*loop.Horizon + 17*tick, 2*loop.Horizon + 17*tick - 1, 2*loop.Horizon + 17*tick},
		{"the largest there is", math.MaxInt64, math.MaxInt64 / tick * tick, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var w loop.Wheel
			var timer loop.Timer
			w.Arm(&timer, tt.at)
			if n := w.Advance(tt.before, 10, ignoreTimer); n != 0 || !timer.Armed() || timer.At() != tt.at {
				t.Fatalf("%d fired before the deadline; armed %v, at %v", n, timer.Armed(), timer.At())
			}
			if next, ok := w.Next(); !ok || next > loop.TickEnd(max(tt.at, tick)) {
				t.Fatalf("next %v, %v", next, ok)
			}
			if tt.after == 0 {
				return // no later time can be told
			}
			if n := w.Advance(tt.after, 10, ignoreTimer); n != 1 || timer.Armed() || w.Len() != 0 {
				t.Fatalf("%d fired at the deadline; armed %v, %d left", n, timer.Armed(), w.Len())
			}
			if at, ok := w.Next(); ok {
				t.Fatalf("next %v of an empty wheel", at)
			}
		})
	}
}

// TestWheelForgetsStopped: timeouts that are stopped in time must not wake the loop.
func TestWheelForgetsStopped(t *testing.T) {
	var w loop.Wheel
	timers := make([]loop.Timer, 5)
	for i := range timers {
		w.Arm(&timers[i], []time.Duration{3, 7, 300, 70000, 1 << 25}[i]*tick)
	}
	for i := range 4 {
		w.Stop(&timers[i])
		w.Stop(&timers[i]) // twice is safe
	}
	// What is left waits on level 3: its slot is emptied at the start.
	if at, ok := w.Next(); !ok || at != 1<<25*tick || w.Len() != 1 {
		t.Fatalf("next %v, %v; %d armed", at, ok, w.Len())
	}
}

func TestWheelBudget(t *testing.T) {
	var w loop.Wheel
	timers := make([]loop.Timer, 100)
	for i := range timers {
		w.Arm(&timers[i], time.Duration(i%3)*tick)
	}
	for left := 100; left > 0; {
		n := w.Advance(time.Minute, 30, ignoreTimer)
		if n != min(30, left) {
			t.Fatalf("%d fired of %d with a budget of 30", n, left)
		}
		left -= n
		if at, ok := w.Next(); w.Len() != left || ok != (left > 0) || at > time.Minute {
			t.Fatalf("%d armed, want %d; next %v, %v", w.Len(), left, at, ok)
		}
	}
}

// model is the wheel by definition: a set of deadlines.
type model struct {
	t      *testing.T
	rng    *rand.Rand
	w      loop.Wheel
	now    time.Duration
	timers []modelTimer
	fired  int // in the Advance under way
}

type modelTimer struct {
	loop.Timer
	m     *model
	due   time.Duration // the end of the tick at which it must fire
	armed bool
}

func (x *modelTimer) Failed(err error) { x.m.t.Errorf("failed: %v", err) }

// Fire checks one firing, and then does to this and to other timers what a callback may do.
func (x *modelTimer) Fire() {
	m := x.m
	m.fired++
	if !x.armed || x.Armed() {
		m.t.Fatalf("fired; armed in the model %v, in the wheel %v", x.armed, x.Armed())
	}
	if m.now < x.due {
		m.t.Fatalf("due at %v, fired at %v", x.due, m.now)
	}
	x.armed = false
	for range m.rng.IntN(3) {
		other := &m.timers[m.rng.IntN(len(m.timers))]
		if m.rng.IntN(2) == 0 {
			m.stop(other)
		} else {
			m.arm(other)
		}
	}
}

// arm picks a deadline at a random distance of random magnitude: each level and beyond the horizon.
func (m *model) arm(x *modelTimer) {
	at := m.now + time.Duration(m.rng.Int64N(1<<m.rng.IntN(60)))
	m.w.Arm(&x.Timer, at)
	x.armed, x.due = true, loop.TickEnd(at)
}

func (m *model) stop(x *modelTimer) {
	m.w.Stop(&x.Timer)
	x.armed = false
}

// advance moves both on and compares. After a full Advance nothing that was due before is left; timers armed by a
// callback for a time that has come may wait for the next tick.
func (m *model) advance(to time.Duration, budget int) {
	m.now, m.fired = to, 0
	n := m.w.Advance(to, budget, func(t *loop.Timer) { t.Firer.Fire() })
	if n != m.fired || n > budget {
		m.t.Fatalf("says %d fired, %d did, budget %d", n, m.fired, budget)
	}
	m.check(n == budget)
}

func (m *model) check(more bool) {
	count, first, found := 0, time.Duration(0), false
	for i := range m.timers {
		x := &m.timers[i]
		if x.armed != x.Armed() {
			m.t.Fatalf("armed in the model %v, in the wheel %v", x.armed, x.Armed())
		}
		if !x.armed {
			continue
		}
		count++
		if x.due <= m.now-tick && !more {
			m.t.Fatalf("due at %v, lost at %v", x.due, m.now)
		}
		if !found || x.due < first {
			first, found = x.due, true
		}
	}
	next, ok := m.w.Next()
	if m.w.Len() != count || ok != found {
		m.t.Fatalf("%d armed, want %d; next %v", m.w.Len(), count, ok)
	}
	if found && next > max(first, m.now/tick*tick+tick) {
		m.t.Fatalf("next %v is late: a timer is due at %v, now %v", next, first, m.now)
	}
}

// run makes a history of steps from a seed.
func (m *model) run(steps int) {
	for i := range m.timers {
		m.timers[i].m, m.timers[i].Firer = m, &m.timers[i]
	}
	for range steps {
		x := &m.timers[m.rng.IntN(len(m.timers))]
		switch m.rng.IntN(8) {
		case 0, 1, 2:
			m.arm(x)
		case 3:
			m.stop(x)
		case 4: // exactly to what Next says: where an off-by-one would show
			if at, ok := m.w.Next(); ok && at > m.now {
				m.advance(at, math.MaxInt)
			}
		case 5:
			m.advance(m.now, 1+m.rng.IntN(3))
		default:
			budget := math.MaxInt
			if m.rng.IntN(2) == 0 {
				budget = 1 + m.rng.IntN(4)
			}
			if to := m.now + time.Duration(m.rng.Int64N(1<<m.rng.IntN(58))); to > 0 && to < 1<<61 {
				m.advance(to, budget)
			}
		}
	}
	// Nothing is lost: followed along its own Next, the wheel empties. These callbacks arm nothing.
	fired, left := 0, m.w.Len()
	for m.w.Len() > 0 {
		at, _ := m.w.Next()
		m.now = max(m.now, at)
		fired += m.w.Advance(m.now, 7, func(t *loop.Timer) {
			x := t.Firer.(*modelTimer)
			if m.now < x.due {
				m.t.Fatalf("due at %v, fired at %v", x.due, m.now)
			}
			if !x.armed {
				m.t.Fatalf("due at %v, fired without being armed", x.due)
			}
			x.armed = false
		})
	}
	if fired != left {
		m.t.Fatalf("%d fired of %d", fired, left)
	}
}

func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(300) {
		m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 1)), timers: make([]modelTimer, 1+seed%60)}
		m.run(600)
	}
}

// FuzzWheel: whatever the history, the wheel agrees with the model.
func FuzzWheel(f *testing.F) {
	f.Add(uint64(1), uint64(2), uint8(3), uint16(500))
	f.Add(uint64(9), uint64(0), uint8(200), uint16(2000))
	f.Fuzz(func(t *testing.T, a, b uint64, timers uint8, steps uint16) {
		m := &model{t: t, rng: rand.New(rand.NewPCG(a, b)), timers: make([]modelTimer, 1+int(timers))}
		m.run(int(steps) % 4096)
	})
}

func TestWheelAllocatesNothing(t *testing.T) {
	var w loop.Wheel
	timers := make([]loop.Timer, 1000)
	rng := rand.New(rand.NewPCG(1, 2))
	now := time.Duration(0)
	got := testing.AllocsPerRun(100, func() {
		for i := range timers {
			w.Arm(&timers[i], now+time.Duration(rng.Int64N(int64(3*time.Second))))
		}
		for i := range timers[:300] {
			w.Stop(&timers[i])
		}
		now += time.Second
		w.Advance(now, len(timers), ignoreTimer)
		w.Next()
	})
	if got != 0 {
		t.Fatalf("%v allocations", got)
	}
}

// BenchmarkWheel holds a million timers, all heartbeats: each fires every 15 s and arms itself again. One operation is
// one firing.
func BenchmarkWheel(b *testing.B) {
	const timers, period = 1_000_000, 15 * time.Second
	var w loop.Wheel
	all := make([]loop.Timer, timers)
	for i := range all {
		w.Arm(&all[i], time.Duration(i)*period/timers)
	}
	now, fired := time.Duration(0), 0
	again := func(t *loop.Timer) { w.Arm(t, now+period) }
	b.ReportAllocs()
	for fired < b.N {
		now += tick
		fired += w.Advance(now, b.N-fired, again)
		w.Next()
	}
}

// BenchmarkWheelMove arms and moves the timeout of a random one of a million: what each write to a client does.
func BenchmarkWheelMove(b *testing.B) {
	const timers = 1_000_000
	var w loop.Wheel
	all := make([]loop.Timer, timers)
	for i := range all {
		w.Arm(&all[i], time.Duration(i)*30*time.Second/timers)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	for b.Loop() {
		i := rng.IntN(timers)
		w.Arm(&all[i], time.Duration(i)*31*time.Second/timers)
	}
}
