package loop

import (
	"math/bits"
	"time"
)

// TickLength is the resolution of a Wheel: deadlines are rounded up to it, so that one wake-up serves every stream due
// within it. Shorter ticks cost wake-ups (16 us of CPU each, BenchmarkWakeTimer), longer ones lateness.
const TickLength = 4 * time.Millisecond

// Level 0 has 4096 slots of a tick (16 s: neither an event a second nor a heartbeat ever moves down from a higher
// level), the three above have 256 slots each, of 16 s, 70 minutes and 12 days: in all 2^36 ticks, 8 years. What lies
// beyond is put at the horizon and moved on when it gets there. 38 KB per loop.
const (
	wheelBits0  = 12
	wheelBits   = 8
	wheelLevels = 4
	wheelSlots  = 1<<wheelBits0 + (wheelLevels-1)<<wheelBits           // over all levels
	horizon     = int64(1)<<(wheelBits0+(wheelLevels-1)*wheelBits) - 1 // ticks
)

// level is one ring of the wheel. A slot of it is 1<<shift ticks long, and it has 1<<bits of them from first on.
type level struct{ shift, bits, first int }

func (l level) slot(tick int64) int { return l.first + int(tick>>l.shift)&(1<<l.bits-1) }

var levels = [wheelLevels]level{
	{0, wheelBits0, 0},
	{wheelBits0, wheelBits, 1 << wheelBits0},
	{wheelBits0 + wheelBits, wheelBits, 1<<wheelBits0 + 1<<wheelBits},
	{wheelBits0 + 2*wheelBits, wheelBits, 1<<wheelBits0 + 2<<wheelBits},
}

// Firer is what a Timer calls. Both methods run on the timer's loop and must not block.
type Firer interface {
	// Fire runs once per arming, at or after the deadline. It may arm and stop any timer of the loop, its own too.
	Fire()
	// Failed reports that Fire panicked. The timer is not armed.
	Failed(err error)
}

// Timer is an entry of a Wheel, to be embedded in what it is for: arming and stopping allocate nothing. The zero
// Timer with Firer set is ready. It must not be copied while it is armed. Loop goroutine only.
type Timer struct {
	Firer Firer

	next *Timer
	prev **Timer       // the pointer that points here; nil exactly when the timer is not armed
	at   time.Duration // deadline on the loop's clock; valid while armed
}

// Armed reports whether the timer waits to fire.
func (t *Timer) Armed() bool { return t.prev != nil }

// At is the deadline on the loop's clock; meaningful only while Armed.
func (t *Timer) At() time.Duration { return t.at }

// Wheel is a hierarchical timer wheel. Arm and Stop are O(1); a timer is moved at most once per level on its way
// down. It never reads the clock: time comes in with Advance. Timers of the same tick fire in no particular order.
// Not safe for concurrent use.
type Wheel struct {
	hand   int64 // every slot of a tick <= hand has been emptied
	count  int   // armed timers, those in due included
	due    *Timer
	slots  [wheelSlots]*Timer
	filled [wheelSlots / 64]uint64 // bit set: the slot may hold timers (Stop leaves it set, nextFilled clears it)
}

// Len is the number of armed timers.
func (w *Wheel) Len() int { return w.count }

// Arm sets t to fire at deadline at, on the clock of Advance; one that is armed already is moved. A deadline in the
// past fires at the next tick.
func (w *Wheel) Arm(t *Timer, at time.Duration) {
	if t.prev != nil {
		t.unlink()
	} else {
		w.count++
	}
	t.at = at
	w.place(t)
}

// Stop disarms t. One that is not armed stays so.
func (w *Wheel) Stop(t *Timer) {
	if t.prev == nil {
		return
	}
	t.unlink()
	w.count--
}

// place links t into the slot of its deadline as seen from the hand.
func (w *Wheel) place(t *Timer) {
	tick := tickAfter(t.at)
	if tick <= w.hand {
		tick = w.hand + 1
	}
	if tick-w.hand > horizon {
		tick = w.hand + horizon
	}
	// The level that can tell ticks apart at this distance. Going round past the hand is unambiguous: what a slot held
	// for the hand's own round was moved down when the hand entered it.
	l := 0
	if far := bits.Len64(uint64(tick-w.hand)) - 1 - wheelBits0; far >= 0 {
		l = 1 + far/wheelBits
	}
	slot := levels[l].slot(tick)
	t.link(&w.slots[slot])
	w.filled[slot/64] |= 1 << (slot % 64)
}

// Next is the time at which Advance has work to do: the next tick with timers, or the next at which a higher level
// must be emptied. ok is false when nothing is armed. It may be early (never late): what a higher level holds may be
// due up to one of that level's slots later.
func (w *Wheel) Next() (at time.Duration, ok bool) {
	if w.due != nil {
		return time.Duration(w.hand) * TickLength, true
	}
	if w.count == 0 {
		return 0, false
	}
	tick, ok := w.nextTick()
	return time.Duration(tick) * TickLength, ok
}

// nextTick finds the first tick after the hand at which a slot has to be emptied, over all levels.
func (w *Wheel) nextTick() (int64, bool) {
	best, found := int64(0), false
	for i, l := range levels {
		ahead := w.nextFilled(l)
		if ahead == 0 {
			continue
		}
		tick := (w.hand>>l.shift + int64(ahead)) << l.shift
		if !found || tick < best {
			best, found = tick, true
		}
		if i == 0 && tick>>l.bits == w.hand>>l.bits {
			break // this round of level 0 ends before any higher level has to be emptied
		}
	}
	return best, found
}

// nextFilled is how many slots after the hand's the next filled one of a level is, going round once; 0: there is none.
// It forgets the slots that Stop emptied: a timeout that is stopped in time, as nearly all are, wakes nobody.
func (w *Wheel) nextFilled(l level) int {
	size, at := 1<<l.bits, int(w.hand>>l.shift)
	for step := 1; step <= size; {
		slot := l.first + (at+step)&(size-1)
		word := w.filled[slot/64] >> (slot % 64)
		if word == 0 {
			step += 64 - slot%64
			continue
		}
		step += bits.TrailingZeros64(word)
		if step > size {
			break
		}
		slot = l.first + (at+step)&(size-1)
		if w.slots[slot] != nil {
			return step
		}
		w.filled[slot/64] &^= 1 << (slot % 64)
	}
	return 0
}

// Advance moves the hand to now and fires what is due, at most budget timers: the rest is kept, and Next says now.
// It returns how many fired. call runs each one (it decides what a panic costs).
func (w *Wheel) Advance(now time.Duration, budget int, call func(*Timer)) int {
	target := int64(now / TickLength)
	fired := w.fireDue(budget, call)
	for fired < budget && w.hand < target {
		tick, ok := w.nextTick()
		if !ok || tick > target {
			w.hand = target // nothing in between: slots passed over are empty
			break
		}
		w.turnTo(tick)
		fired += w.fireDue(budget-fired, call)
	}
	return fired
}

// turnTo sets the hand to tick, moves down what the higher levels hold for it, and takes its level 0 slot for due.
func (w *Wheel) turnTo(tick int64) {
	w.hand = tick
	for i := wheelLevels - 1; i > 0; i-- {
		l := levels[i]
		if tick&(1<<l.shift-1) != 0 {
			continue // not at the start of a slot of this level
		}
		for t := w.take(l.slot(tick)); t != nil; {
			next := t.next
			if tickAfter(t.at) <= w.hand {
				t.link(&w.due)
			} else {
				w.place(t)
			}
			t = next
		}
	}
	head := w.take(levels[0].slot(tick))
	if w.due == nil && head != nil { // nearly always: the whole list moves, and no timer is touched but the first
		w.due, head.prev = head, &w.due
		return
	}
	for t := head; t != nil; {
		next := t.next
		t.link(&w.due)
		t = next
	}
}

// take empties a slot and gives its list.
func (w *Wheel) take(slot int) *Timer {
	w.filled[slot/64] &^= 1 << (slot % 64)
	head := w.slots[slot]
	w.slots[slot] = nil
	return head
}

// fireDue fires from the due list. Each timer is unlinked before its call, so that a callback may arm or stop any
// timer, those still due included.
func (w *Wheel) fireDue(budget int, call func(*Timer)) int {
	fired := 0
	for w.due != nil && fired < budget {
		t := w.due
		if n := t.next; n != nil && n.next != nil {
			prefetch(n.next) // two ahead: the next one is there already, or reading its next would be the miss
		}
		t.unlink()
		w.count--
		fired++
		call(t)
	}
	return fired
}

func (t *Timer) link(head **Timer) {
	t.next = *head
	t.prev = head
	if t.next != nil {
		t.next.prev = &t.next
	}
	*head = t
}

func (t *Timer) unlink() {
	*t.prev = t.next
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev = nil, nil
}

// tickAfter is the first tick at or after the time at, which may be the largest there is.
func tickAfter(at time.Duration) int64 {
	tick := int64(at / TickLength)
	if at%TickLength > 0 {
		tick++
	}
	return tick
}

// tickEnd is when a timer with deadline at is due: at, rounded up to a tick.
func tickEnd(at time.Duration) time.Duration { return time.Duration(tickAfter(at)) * TickLength }
