package health

import (
	"sync"
	"time"
)

// Loop is what is asked: a loop.Loop.
type Loop interface {
	Post(f func()) error // runs f on the loop, in its next turn
}

// Checker asks a fixed set of loops. Any goroutine.
type Checker struct {
	questions []*question // one per loop; immutable
}

// New makes a Checker.
func New[L Loop](loops []L) *Checker {
	c := &Checker{}
	for _, l := range loops {
		c.questions = append(c.questions, &question{loop: l})
	}
	return c
}

// Hung asks every loop and waits up to timeout for their answers. It gives the indices of those that did not answer;
// a loop that is closed is one of them. nil: all turn.
func (c *Checker) Hung(timeout time.Duration) []int {
	answers := make([]<-chan struct{}, len(c.questions))
	for i, q := range c.questions {
		answers[i] = q.ask()
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var hung []int
	over := false
	for i, answer := range answers {
		if !over {
			select {
			case <-answer:
				continue
			case <-timer.C:
				over = true
			}
		}
		select {
		case <-answer: // in time, while we waited for another
		default:
			hung = append(hung, i)
		}
	}
	return hung
}

// question is what one loop is asked. A loop that hangs has one function queued, however often it is asked.
type question struct {
	loop Loop

	mu   sync.Mutex
	open chan struct{} // guarded by mu; closed by the answer; nil: none is awaited
}

// ask gives the channel that the answer closes.
func (q *question) ask() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open != nil {
		return q.open // asked before, and not answered: an answer now is as good as one to a new question
	}
	open := make(chan struct{})
	q.open = open
	err := q.loop.Post(func() {
		q.mu.Lock()
		q.open = nil
		q.mu.Unlock()
		close(open)
	})
	if err != nil {
		q.open = nil // closed: open is never
	}
	return open
}
