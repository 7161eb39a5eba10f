package loop

import (
	"errors"
	"fmt"
	"time"
)

// Pool is a fixed set of loops with one clock.
type Pool struct {
	loops []*Loop // immutable
}

// NewPool opens and starts n loops, n >= 1. Each takes two descriptors. Close ends them.
func NewPool(n int) (*Pool, error) {
	if n < 1 {
		return nil, errors.New("loop: a pool needs at least one loop")
	}
	p := &Pool{}
	epoch := time.Now()
	for i := range n {
		l, err := newLoop(i, n, epoch)
		if err != nil {
			p.Close()
			return nil, fmt.Errorf("loop %d of %d: %w", i, n, err)
		}
		p.loops = append(p.loops, l)
	}
	return p, nil
}

// Loops gives the loops; the slice is the pool's own. Any goroutine.
func (p *Pool) Loops() []*Loop { return p.loops }

// Close stops every loop and waits: functions posted before still run, descriptors that are still attached are
// closed without a callback, armed timers do not fire. It leaves no goroutine and no descriptor. Twice is safe; not from a loop's goroutine.
func (p *Pool) Close() {
	for _, l := range p.loops {
		l.close()
	}
	for _, l := range p.loops {
		<-l.exited
	}
}
