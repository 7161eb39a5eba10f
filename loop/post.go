package loop

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// postedKept bounds the memory that a burst of posts leaves behind: 32 KB.
const postedKept = 4096

// pollEvery is how often a loop looks at its queue while functions come by PostSoon faster than that. A wake-up for each
// costs both sides a syscall, and the loop its sleep: 1.3 of 16.6 us per event, with 10,000 completions of an event per
// second whose bytes came from 40 other goroutines.
const pollEvery = time.Millisecond

// postQueue is what was posted to a loop and has not run.
type postQueue struct {
	posters atomic.Int32 // goroutines between their append and their wake

	mu     sync.Mutex
	list   []func()      // guarded by mu, like all below
	at     time.Duration // when the first of list was posted
	woken  bool          // a wake is under way, and the turn that it starts takes all of list
	soon   bool          // some of list came by PostSoon
	polled bool          // the loop looks at the queue by itself, within pollEvery
	closed bool
}

// Post queues f for the next turn. Any goroutine may call it; f runs on the loop and must not block. After Close it
// gives ErrClosed and f never runs; nil promises that f runs, during a Close too (where Attach gives ErrClosed).
func (l *Loop) Post(f func()) error { return l.post(f, false) }

// PostSoon is Post for a flow of functions that can wait a millisecond: where they come faster than that, the loop is
// not woken for each. The order of Post and PostSoon together is kept.
func (l *Loop) PostSoon(f func()) error { return l.post(f, true) }

func (l *Loop) post(f func(), soon bool) error {
	q := &l.queue
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return ErrClosed
	}
	if len(q.list) == 0 {
		q.at = l.Clock()
	}
	q.list = append(q.list, f)
	q.soon = q.soon || soon
	wake := !q.woken && !(soon && q.polled)
	if !wake {
		q.mu.Unlock()
		return nil
	}
	q.woken = true
	q.posters.Add(1)
	q.mu.Unlock()
	l.trigger()
	q.posters.Add(-1)
	return nil
}

// trigger wakes the loop, or keeps it from sleeping. Any goroutine.
func (l *Loop) trigger() {
	if err := l.epoll.Trigger(); err != nil {
		panic(fmt.Sprintf("loop %d: eventfd: %v", l.index, err)) // the descriptor is ours and counts up to 2^64
	}
}

// runPosted runs what was queued before it looked; what those post waits for the next turn.
func (l *Loop) runPosted() {
	q := &l.queue
	q.mu.Lock()
	if q.soon {
		q.polled = l.mayHold && l.now-l.soonAt < 2*pollEvery
		l.soonAt = l.now
	} else if q.polled && l.now-l.soonAt >= 2*pollEvery {
		q.polled = false
	}
	l.polling = q.polled
	if len(q.list) == 0 {
		q.mu.Unlock()
		return
	}
	at := q.at
	l.running, q.list = q.list, l.running[:0]
	q.woken, q.soon = false, false
	q.mu.Unlock()
	l.lag.observe(l.Clock() - at)
	for i, f := range l.running {
		l.running[i] = nil
		runPosted(f)
	}
	if cap(l.running) > postedKept {
		l.running = nil
	}
}

func runPosted(f func()) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(v)
		}
	}()
	f()
}

// close takes no more; it reports whether that is new.
func (q *postQueue) close() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.closed
	q.closed = true
	return !was
}

// awaitPosters waits for the wakes that are under way: after the poll's close they would be written to a number that
// somebody else may have.
func (q *postQueue) awaitPosters() {
	for q.posters.Load() > 0 {
		runtime.Gosched()
	}
}
