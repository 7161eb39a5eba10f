package metrics

import (
	"bytes"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
)

// Bucket bounds, in seconds. Doubling keeps the error of an interpolated
// quantile below a factor of two at any scale, and a doubled float stays the
// nearest one to its decimal, so the le labels are short ("0.0016").
var (
	// 0.1 ms to 1.6384 s. A healthy handoff takes well under a millisecond;
	// what is slower than a second is on its way to the handoff timeout.
	handoffBounds = vm.ExponentialBuckets(0.0001, 2, 15)

	// 0.1 ms to 13.1072 s: the first byte waits for the backend, and one that
	// calls an upstream answers in seconds.
	firstByteBounds = vm.ExponentialBuckets(0.0001, 2, 18)

	// 10 ms to 655.36 s: from a rejection's short answer to a long generation.
	streamBounds = vm.ExponentialBuckets(0.01, 2, 17)
)

// durations is one histogram of durations with its name and help. Each has a
// library Set to itself: the samples of a PrometheusHistogram can be had only
// through a Set, and a Set has no place for help text between two histograms.
type durations struct {
	name, help string
	set        *vm.Set
	h          *vm.PrometheusHistogram
}

func newDurations(name, help string, bounds []float64) *durations {
	set := vm.NewSet()
	return &durations{name: name, help: help, set: set, h: set.NewPrometheusHistogramExt(name, bounds)}
}

// observe counts d. Any goroutine; takes a mutex. The library drops a negative
// value; here it counts as 0, so that _count stays the number of streams.
func (d *durations) observe(elapsed time.Duration) {
	d.h.Update(max(elapsed, 0).Seconds())
}

// write puts the family on p.
func (d *durations) write(p *page) {
	p.family(d.name, histogram, d.help)
	var samples bytes.Buffer
	d.set.WritePrometheus(&samples)
	for line := range bytes.Lines(samples.Bytes()) {
		// The library writes HELP and TYPE of its own, the first without a
		// text, once anybody in the process calls its ExposeMetadata(true).
		if line[0] != '#' {
			p.buf = append(p.buf, line...)
		}
	}
}
