package metrics

import (
	"bytes"
	"strconv"
	"strings"
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
	bounds     []float64 // upper ones, in seconds; immutable
	set        *vm.Set
	h          *vm.PrometheusHistogram
}

func newDurations(name, help string, bounds []float64) *durations {
	set := vm.NewSet()
	return &durations{name: name, help: help, bounds: bounds, set: set, h: set.NewPrometheusHistogramExt(name, bounds)}
}

// observe counts d. Any goroutine; takes a mutex. The library drops a negative
// value; here it counts as 0, so that _count stays the number of streams.
func (d *durations) observe(elapsed time.Duration) {
	d.h.Update(max(elapsed, 0).Seconds())
}

// read gives the counts. The library shows them as text only: one line for
// each bound, cumulative, then the sum and the count.
func (d *durations) read() Buckets {
	var samples bytes.Buffer
	d.set.WritePrometheus(&samples)
	b := Buckets{UpperSeconds: d.bounds}
	var below uint64 // observations up to the bound before
	for line := range bytes.Lines(samples.Bytes()) {
		// The library writes HELP and TYPE of its own, the first without a
		// text, once anybody in the process calls its ExposeMetadata(true).
		name, value, ok := strings.Cut(strings.TrimSpace(string(line)), " ")
		if !ok || line[0] == '#' {
			continue
		}
		switch rest := strings.TrimPrefix(name, d.name); {
		case strings.HasPrefix(rest, "_bucket{"):
			n, err := strconv.ParseUint(value, 10, 64)
			if err != nil || n < below {
				panic("metrics: the library wrote " + string(line))
			}
			b.Counts = append(b.Counts, n-below)
			below = n
		case rest == "_sum":
			sum, err := strconv.ParseFloat(value, 64)
			if err != nil {
				panic("metrics: the library wrote " + string(line))
			}
			b.SumSeconds = sum
		}
	}
	return b
}
