package load_test

import (
	"testing"
	"time"

	"streaming-daemon-go/bench/load"
)

// Lateness is against the schedule: a stream that drifts is late although each of its gaps is nearly right, and one
// whose first event was slow is not thought to be early.
func TestLatenessIsAgainstTheSchedule(t *testing.T) {
	const second, ms = time.Second, time.Millisecond
	tests := []struct {
		name   string
		reads  []time.Duration
		events []int
		want   time.Duration // the largest lateness
		count  int64
	}{
		{"on time", []time.Duration{5 * second, 6 * second, 7 * second}, []int{1, 1, 1}, 0, 2},
		{"drifts by 10 ms an event", []time.Duration{5 * second, 6*second + 10*ms, 7*second + 20*ms, 8*second + 30*ms}, []int{1, 1, 1, 1}, 30 * ms, 3},
		{"first was 50 ms late", []time.Duration{5*second + 50*ms, 6 * second, 7*second + 20*ms}, []int{1, 1, 1}, 20 * ms, 2},
		{"two at once", []time.Duration{5 * second, 7 * second}, []int{1, 2}, second, 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			late, gap := load.Lateness(second, tt.reads, tt.events)
			if got := late.At(100); got < tt.want || got > tt.want+tt.want/500 { // exact to three digits
				t.Errorf("latest by %v, want %v", got, tt.want)
			}
			if late.Count() != tt.count {
				t.Errorf("%d events measured, want %d: all but the first", late.Count(), tt.count)
			}
			if got, want := gap.Count(), int64(len(tt.reads)-1); got != want {
				t.Errorf("%d gaps, want %d", got, want)
			}
		})
	}
}

func TestLatencyIsCutToItsRange(t *testing.T) {
	l := load.NewLatency()
	l.Record(-time.Second)
	l.Record(time.Hour)
	o := load.NewLatency()
	o.Record(time.Millisecond)
	l.Add(o)
	if l.Count() != 3 || l.At(0) != 0 || l.At(50) != time.Millisecond || l.At(100) < 9*time.Minute {
		t.Errorf("count %d, %v, %v, %v", l.Count(), l.At(0), l.At(50), l.At(100))
	}
}
