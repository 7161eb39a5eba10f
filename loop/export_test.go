package loop

import (
	"reflect"
	"time"

	"github.com/cloudwego/netpoll"
)

// What the tests outside the package need of its inside.

const (
	TurnTimers = turnTimers
	BatchSlots = batchSlots
	PostedKept = postedKept
	FreedBatch = freedBatch
	PollEvery  = pollEvery
	Horizon    = time.Duration(horizon) * TickLength
)

var (
	ErrPanic     = errPanic
	TickEnd      = tickEnd
	Milliseconds = milliseconds
)

// Forever is no deadline.
const Forever = forever

// OpenPoll opens a poll whose batches go through turn, and which waits in netpoll's Wait alone.
func OpenPoll(turn func(dispatch func() bool) bool) (netpoll.Poll, error) {
	e, err := openEpoll(epollHooks{turn: turn, back: func() bool { return true }})
	if err != nil {
		return nil, err
	}
	return e.Poll, nil
}

// PollFDs gives the epoll and the eventfd descriptor of a poll.
func PollFDs(p netpoll.Poll) (epoll, event int) {
	v := reflect.ValueOf(p).Elem()
	return int(v.FieldByName("fd").Int()), int(v.FieldByName("wop").Elem().FieldByName("FD").Int())
}

// LoopFDs gives the descriptors of a loop: epoll, eventfd. Loop goroutine only.
func LoopFDs(l *Loop) [2]int {
	epoll, event := PollFDs(l.epoll.Poll)
	return [2]int{epoll, event}
}

// CountDeadlines adds to *n for each turn that only a deadline began. Loop goroutine only.
func CountDeadlines(l *Loop, n *int) {
	turn := l.epoll.hooks.turn
	l.epoll.hooks.turn = func(dispatch func() bool) bool {
		if len(l.epoll.batch) == 0 {
			*n++
		}
		return turn(dispatch)
	}
}

// Poll makes the loop poll for what comes by PostSoon. Loop goroutine only.
func Poll(l *Loop) {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	l.queue.polled = true
}

// WaitCoarsely makes the loop wait as on a kernel without epoll_pwait2. Loop goroutine only.
func WaitCoarsely(l *Loop) { l.epoll.coarse = true }

// RunningCap is the room kept for posted functions. Loop goroutine only.
func RunningCap(l *Loop) int { return cap(l.running) }

// Lag is the histogram, for a test of its buckets.
type Lag struct{ lag }

func (l *Lag) Observe(d time.Duration) { l.observe(d) }
func (l *Lag) Read() LagCounts         { return l.read() }

// Posted is how many posted functions wait. Any goroutine.
func Posted(l *Loop) int {
	l.queue.mu.Lock()
	defer l.queue.mu.Unlock()
	return len(l.queue.list)
}

// Operators is how many operators the loop's poll has made so far; it never gives one up. Loop goroutine only.
func Operators(l *Loop) int {
	return reflect.ValueOf(l.epoll.Poll).Elem().FieldByName("opcache").Elem().FieldByName("cache").Len()
}
