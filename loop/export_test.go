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
	Horizon    = time.Duration(horizon) * TickLength
)

var (
	ErrPanic = errPanic
	TickEnd  = tickEnd
	NewPoll  = newPoll
)

// PollFDs gives the epoll and the eventfd descriptor of a poll.
func PollFDs(p netpoll.Poll) (epoll, event int) {
	v := reflect.ValueOf(p).Elem()
	return int(v.FieldByName("fd").Int()), int(v.FieldByName("wop").Elem().FieldByName("FD").Int())
}

// LoopFDs gives the descriptors of a loop: epoll, eventfd, timerfd. The last is -1 once the loop is closed. Loop
// goroutine only.
func LoopFDs(l *Loop) [3]int {
	epoll, event := PollFDs(l.poll)
	return [3]int{epoll, event, l.timerFD.FD()}
}

// countedAlarm counts the wake-ups by the timerfd.
type countedAlarm struct {
	alarm
	n *int
}

func (a countedAlarm) Readable() { *a.n++; a.alarm.Readable() }

// CountAlarms adds to *n whenever the timerfd wakes the loop. Loop goroutine only.
func CountAlarms(l *Loop, n *int) { l.timerFD.handler = countedAlarm{alarm{l}, n} }

// RunningCap is the room kept for posted functions. Loop goroutine only.
func RunningCap(l *Loop) int { return cap(l.running) }

// Lag is the histogram, for a test of its buckets.
type Lag struct{ lag }

func (l *Lag) Observe(d time.Duration) { l.observe(d) }
func (l *Lag) Read() LagCounts         { return l.read() }

// Posted is how many posted functions wait. Any goroutine.
func Posted(l *Loop) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.posted)
}

// Operators is how many operators the loop's poll has made so far; it never gives one up. Loop goroutine only.
func Operators(l *Loop) int {
	return reflect.ValueOf(l.poll).Elem().FieldByName("opcache").Elem().FieldByName("cache").Len()
}
