package h1

import (
	"time"

	"streaming-daemon-go/loop"
)

// waitList is a list of connections in the order in which they came, all under the same timeout, so that one timer
// serves them all. It is a loop.Firer. Loop goroutine only.
type waitList struct {
	loop        *loop.Loop
	timer       loop.Timer
	timeout     time.Duration
	expire      func(*conn) // must take it off the list
	first, last *conn
	len         int
}

func (w *waitList) init(l *loop.Loop, timeout time.Duration, expire func(*conn)) {
	w.loop, w.timeout, w.expire = l, timeout, expire
	w.timer.Firer = w
}

// push adds c at the end. A timer that is armed for an earlier one is left alone.
func (w *waitList) push(c *conn) {
	c.since = w.loop.Now()
	c.prev, c.next = w.last, nil
	if w.last != nil {
		w.last.next = c
	} else {
		w.first = c
	}
	w.last = c
	w.len++
	if !w.timer.Armed() {
		w.loop.Arm(&w.timer, c.since+w.timeout)
	}
}

// remove takes c, which is on the list, off it. The timer is left alone: one look too many costs less than a move.
func (w *waitList) remove(c *conn) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		w.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		w.last = c.prev
	}
	c.prev, c.next = nil, nil
	w.len--
}

// expireTurn bounds what one firing costs; the rest follows in the next tick.
const expireTurn = 256

func (w *waitList) Fire() {
	defer w.rearm() // an expiry that panics must not leave the others without a timer
	now := w.loop.Now()
	for n := 0; n < expireTurn && w.first != nil && w.first.since+w.timeout <= now; n++ {
		w.expire(w.first)
	}
}

func (w *waitList) rearm() {
	if w.first != nil {
		w.loop.Arm(&w.timer, w.first.since+w.timeout)
	} else {
		w.loop.Stop(&w.timer)
	}
}

// Failed: Fire panicked, in a receiver; the loop has disarmed the timer.
func (w *waitList) Failed(error) { w.rearm() }
