package load

import (
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Latency is a distribution of durations, exact to three digits from 1 µs to 10 min; what is outside is counted at
// the border. Not safe for concurrent use.
type Latency struct{ h *hdrhistogram.Histogram }

const (
	latencyMax    = 10 * time.Minute
	latencyDigits = 3
)

// NewLatency makes an empty one: about 170 KB.
func NewLatency() Latency {
	return Latency{hdrhistogram.New(1, int64(latencyMax/time.Microsecond), latencyDigits)}
}

// Record adds one duration.
func (l Latency) Record(d time.Duration) {
	us := min(max(int64(d/time.Microsecond), 0), int64(latencyMax/time.Microsecond))
	if err := l.h.RecordValue(us); err != nil {
		panic(fmt.Sprintf("load: latency of %d µs: %v", us, err)) // it was cut to the range above
	}
}

// Add takes in another one.
func (l Latency) Add(o Latency) { l.h.Merge(o.h) }

// Count is how many durations were recorded.
func (l Latency) Count() int64 { return l.h.TotalCount() }

// At is the duration at a percentile, 0 to 100.
func (l Latency) At(percentile float64) time.Duration {
	return time.Duration(l.h.ValueAtQuantile(percentile)) * time.Microsecond
}

// Mean is 0 when nothing was recorded.
func (l Latency) Mean() time.Duration {
	return time.Duration(l.h.Mean() * float64(time.Microsecond))
}

// Latencies are those that a run measures, of clients that read as they should.
type Latencies struct {
	Handoff   Latency // connect to close of the handoff socket, as the sender sees it
	FirstByte Latency // start of the handoff to the first byte of the response
	Lateness  Latency // of an event against the stream's schedule, see client.observe
	Gap       Latency // between two reads that brought events
	Duration  Latency // start of the handoff to the end of the stream
}

// NewLatencies makes empty ones.
func NewLatencies() Latencies {
	return Latencies{NewLatency(), NewLatency(), NewLatency(), NewLatency(), NewLatency()}
}

// Add takes in the ones of another worker or run.
func (l Latencies) Add(o Latencies) {
	l.Handoff.Add(o.Handoff)
	l.FirstByte.Add(o.FirstByte)
	l.Lateness.Add(o.Lateness)
	l.Gap.Add(o.Gap)
	l.Duration.Add(o.Duration)
}
