package loop_test

import (
	"slices"
	"testing"
	"time"

	"streaming-daemon-go/loop"
)

func TestLagBuckets(t *testing.T) {
	upper := loop.LagUpper()
	if !slices.IsSorted(upper) || len(slices.Compact(slices.Clone(upper))) != len(upper) {
		t.Fatalf("bounds %v do not ascend", upper)
	}
	var lag loop.Lag
	sum := time.Duration(0)
	for _, bound := range upper { // bounds are inclusive
		lag.Observe(bound)
		lag.Observe(bound + 1)
		sum += 2*bound + 1
	}
	lag.Observe(-time.Second) // counted as no lag at all
	got := lag.Read()
	want := loop.LagCounts{Sum: sum}
	for i := range want.Counts {
		want.Counts[i] = 2
	}
	want.Counts[len(upper)] = 1
	if got != want {
		t.Fatalf("read %+v, want %+v", got, want)
	}
	got.Add(want)
	if got.Sum != 2*sum || got.Counts[0] != 4 || got.Counts[len(upper)] != 2 {
		t.Fatalf("added to %+v", got)
	}
}

// TestLagOfALoop stalls a loop for 30 ms over a posted function and then over a timer: each is one observation, of at
// least what it waited.
func TestLagOfALoop(t *testing.T) {
	const stall = 30 * time.Millisecond
	l := newLoop(t)
	timer := newFirer(func() {})
	tests := []struct {
		name  string
		stall func()
	}{
		{"posted", func() {
			if err := l.Post(func() {}); err != nil {
				t.Error(err)
			}
			for end := l.Clock() + stall; l.Clock() < end; {
			}
		}},
		{"timer", func() {
			l.Arm(&timer.Timer, l.Now())
			for end := loop.TickEnd(l.Now()+tick) + stall; l.Clock() < end; {
			}
		}},
	}
	for _, tt := range tests {
		before := l.Lag()
		on(t, l, tt.stall)
		waitUntil(t, "the observation of "+tt.name, func() bool { return late(l.Lag(), stall) == late(before, stall)+1 })
		turns(t, l, 1) // counted first, summed then
		if after := l.Lag(); after.Sum-before.Sum < stall {
			t.Errorf("%s: the sum grew by %v", tt.name, after.Sum-before.Sum)
		}
	}
}

// late counts what is in buckets for more than a bound below d, d included.
func late(c loop.LagCounts, d time.Duration) (n uint64) {
	for i, count := range c.Counts {
		if i == len(c.Counts)-1 || loop.LagUpper()[i] >= d {
			n += count
		}
	}
	return n
}
