package loop

import (
	"sync/atomic"
	"time"
)

// lagUpper are the upper bounds of the buckets of a Lag, inclusive.
var lagUpper = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	1 * time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	1 * time.Second, 2500 * time.Millisecond,
}

// LagUpper gives the upper bounds of the buckets of LagCounts, ascending.
func LagUpper() []time.Duration { return lagUpper[:] }

// LagCounts says how late timers (against the end of their tick) and posted functions (against Post) ran: one
// observation for each turn that had any, of the one that waited longest.
type LagCounts struct {
	Counts [len(lagUpper) + 1]uint64 // not cumulative; the last one is above every bound
	Sum    time.Duration
}

// Add adds the counts of another loop.
func (c *LagCounts) Add(o LagCounts) {
	for i, n := range o.Counts {
		c.Counts[i] += n
	}
	c.Sum += o.Sum
}

// lag is a histogram with one writer, the loop, and any number of readers. A reader may see an observation in the counts
// and not yet in the sum.
type lag struct {
	counts [len(lagUpper) + 1]atomic.Uint64
	sum    atomic.Int64 // nanoseconds
}

func (l *lag) observe(d time.Duration) {
	i := 0
	for i < len(lagUpper) && d > lagUpper[i] {
		i++
	}
	l.counts[i].Add(1)
	l.sum.Add(int64(max(d, 0)))
}

func (l *lag) read() (c LagCounts) {
	for i := range l.counts {
		c.Counts[i] = l.counts[i].Load()
	}
	c.Sum = time.Duration(l.sum.Load())
	return c
}
