package loop

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/cloudwego/netpoll"
)

// ErrClosed: the loop has been closed and takes no more.
var ErrClosed = errors.New("loop: closed")

// turnTimers is how many timers fire in one turn at most: after a stall, 10 ms of writes must not keep new handoffs
// and hangups waiting for seconds. What is left fires in the next turn, at once.
const turnTimers = 1024

// freedBatch is how many freed operators may wait to be reusable, 112 bytes each.
const freedBatch = 64

// Loop is one epoll event loop. Make it with NewPool.
type Loop struct {
	index    int           // immutable
	poolSize int           // loops of the pool; immutable
	epoch    time.Time     // immutable; the zero of the loop's clock, common to the pool
	epoll    *epoll        // immutable
	exited   chan struct{} // closed when the goroutine in run has ended

	// owned by the goroutine in run
	now        time.Duration
	wheel      Wheel
	sources    []*Source // attached, in no order
	retiredFDs []FD      // closed in the sweep
	retiredOps []*netpoll.FDOperator
	running    []func()       // the posted functions of this turn; kept for its capacity
	polling    bool           // the loop looks at its queue every pollEvery; a copy of queue.polled
	soonAt     time.Duration  // when PostSoon last had something to run
	lateBy     time.Duration  // the latest timer of this turn
	fire       func(t *Timer) // fireTimer, bound once so that a turn allocates nothing; immutable
	yielded    time.Duration  // when the goroutine last let others run, see wait
	mayHold    bool           // as of then, see wait
	freed      int            // operators that netpoll has not got back yet
	closing    bool

	lag lag

	queue postQueue
}

// newLoop opens the loop's descriptors and starts its goroutine.
func newLoop(index, poolSize int, epoch time.Time) (*Loop, error) {
	l := &Loop{index: index, poolSize: poolSize, yielded: -yieldEvery, epoch: epoch, exited: make(chan struct{})}
	l.fire = l.fireTimer
	e, err := openEpoll(epollHooks{turn: l.turn, wait: l.wait, back: l.back})
	if err != nil {
		return nil, err
	}
	l.epoll = e
	go l.run()
	return l, nil
}

// run is the loop's goroutine. It is not locked to its thread: that costs more in futex calls of the scheduler than it
// saves. BenchmarkTimers18000, BenchmarkWakeTimer and BenchmarkWakePost on 2 cores of a Xeon, CPU without and with
// LockOSThread: 0.7-0.9 and 1.1-1.4 us per firing, 45-67 and 68-78 us per wake-up of an idle loop by its timer, 2-14 and
// 14-23 us per wake-up by another loop; all taken before waits held the P (see holdFor), which lowers both.
func (l *Loop) run() {
	defer close(l.exited)
	if err := l.epoll.Wait(); err != nil || !l.closing {
		panic(fmt.Sprintf("loop %d: epoll_wait ended: %v", l.index, err))
	}
}

// Index is the loop's place in its pool, from 0. Any goroutine.
func (l *Loop) Index() int { return l.index }

// Now is the time of this turn on the loop's clock: since the pool was made, read once before the batch and once
// before the timers. Loop goroutine only.
func (l *Loop) Now() time.Duration { return l.now }

// Clock reads the loop's clock. It is the same for every loop of a pool. Any goroutine.
func (l *Loop) Clock() time.Duration { return time.Since(l.epoch) }

// Lag reads how late timers and posted functions have run since the start. Any goroutine.
func (l *Loop) Lag() LagCounts { return l.lag.read() }

// Sources is how many descriptors are attached. Loop goroutine only.
func (l *Loop) Sources() int { return len(l.sources) }

// Each calls f with the handler of each attached source. f may retire that source and no other. Loop goroutine only.
func (l *Loop) Each(f func(Handler)) {
	for i := len(l.sources) - 1; i >= 0; i-- { // Detach moves the last one, already visited, into the gap
		f(l.sources[i].handler)
	}
}

// Arm sets t to fire at a deadline on the loop's clock; one that is armed is moved. A deadline in the past fires at
// the end of the current tick. Loop goroutine only.
func (l *Loop) Arm(t *Timer, at time.Duration) { l.wheel.Arm(t, max(at, l.now)) }

// Stop disarms t. Loop goroutine only.
func (l *Loop) Stop(t *Timer) { l.wheel.Stop(t) }

// close stops the loop and waits for its goroutine: what is still attached is closed, what is posted is run first.
// No callback is made for it. Not from the loop's own goroutine.
func (l *Loop) close() {
	err := l.Post(func() {
		for len(l.sources) > 0 {
			l.sources[len(l.sources)-1].Retire()
		}
		l.closing = true
	})
	if err == nil {
		<-l.exited
	}
}

// turn is one pass of the loop; netpoll calls it with each batch. It reports whether the poll was closed.
func (l *Loop) turn(dispatch func() bool) bool {
	l.now = l.Clock()
	if dispatch() {
		return true
	}
	l.runPosted()
	if l.closing {
		l.sweep()
		l.shut()
		return false // Wait reads the close from the eventfd in the next batch
	}
	l.now = l.Clock()
	l.fireTimers()
	l.sweep()
	return false
}

func (l *Loop) fireTimers() {
	l.lateBy = 0
	if l.wheel.Advance(l.now, turnTimers, l.fire) > 0 {
		l.lag.observe(l.lateBy)
	}
}

func (l *Loop) fireTimer(t *Timer) {
	l.lateBy = max(l.lateBy, l.now-tickEnd(t.at))
	defer func() {
		if v := recover(); v != nil {
			l.wheel.Stop(t) // it may have armed itself again before it panicked
			failed(t.Firer, logPanic(v))
		}
	}()
	t.Firer.Fire()
}

// sweep ends what the turn retired. Operators are freed here and nowhere else: one freed inside its own callback
// makes netpoll spin for ever.
func (l *Loop) sweep() {
	for i, op := range l.retiredOps {
		l.freeOperator(op)
		l.retiredOps[i] = nil
	}
	l.retiredOps = l.retiredOps[:0]
	for i := range l.retiredFDs {
		if err := l.retiredFDs[i].Close(); err != nil {
			slog.Error("loop: close", "error", err) // EIO at most: the descriptor is gone all the same
		}
	}
	l.retiredFDs = l.retiredFDs[:0]
}

func (l *Loop) freeOperator(op *netpoll.FDOperator) {
	l.epoll.Free(op)
	l.freed++
}

// back reports whether netpoll's Wait has to have its turn: for the end, and to get freed operators back, which is
// worth its price (three syscalls) only for a batch of them.
func (l *Loop) back() bool {
	if l.closing {
		return true
	}
	if l.freed < freedBatch {
		return false
	}
	l.freed = 0
	l.trigger() // else Wait would sleep, and knows no deadline
	return true
}

// shut takes the loop out of service, runs what was posted until then, and closes the poll, once.
func (l *Loop) shut() {
	if !l.queue.close() {
		return
	}
	l.runPosted() // posted after this turn looked, and accepted: it may own a descriptor that it must close
	l.queue.awaitPosters()
	if err := l.epoll.Close(); err != nil {
		panic(fmt.Sprintf("loop %d: close: %v", l.index, err))
	}
}

// logPanic logs a recovered value with its stack and makes an error of it.
func logPanic(v any) error {
	slog.Error("panic in a callback", "panic", v, "stack", string(debug.Stack()))
	if err, ok := v.(error); ok {
		return fmt.Errorf("%w: %w", errPanic, err)
	}
	return fmt.Errorf("%w: %v", errPanic, v)
}

// failed tells h, which may panic once more: that is logged and ends it.
func failed(h interface{ Failed(error) }, err error) {
	defer func() {
		if v := recover(); v != nil {
			logPanic(v)
		}
	}()
	h.Failed(err)
}
