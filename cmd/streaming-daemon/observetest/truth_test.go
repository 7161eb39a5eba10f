package observetest_test

import (
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// world is what there is to ask about.
type world struct {
	db         *database
	all        []*instance
	held, over time.Time // when streams were held; when all had ended

	perCount map[*instance]float64 // what a rate is for each one counted: 1 over the seconds that the program divides by
}

// newWorld finds out by which time the program divides. Every counter of an instance is scraped at the same moments and
// begins at zero, so one of them, whose count is known, tells it for all.
func newWorld(db *database, all []*instance, held, over time.Time) *world {
	w := &world{db: db, all: all, held: held, over: over, perCount: map[*instance]float64{}}
	for _, i := range all {
		w.perCount[i] = db.one(fmt.Sprintf("rate(daemon_connections_total{instance=%q}[5m])", i.addr), over) / i.connections
	}
	return w
}

// of gives the instances that labels speak of: one, or all.
func (w *world) of(labels map[string]string) []*instance {
	for _, i := range w.all {
		if i.addr == labels["instance"] {
			return []*instance{i}
		}
	}
	return w.all
}

// truth is what a query must answer.
type truth struct {
	held   bool // asked while streams are held; else when all is over
	series int  // how many there are
	want   func(w *world, labels map[string]string) (lo, hi float64)
}

// check asks, and compares.
func (tr truth) check(t *testing.T, w *world, expr string) {
	t.Helper()
	at := w.over
	if tr.held {
		at = w.held
	}
	samples, err := w.db.query(expr, at)
	if err != nil || len(samples) != tr.series {
		t.Errorf("%s: %v, %d series, want %d\n%s", w.db.name, err, len(samples), tr.series, expr)
		return
	}
	for _, s := range samples {
		lo, hi := tr.want(w, s.labels)
		const rounding = 1e-6
		if s.value < lo-rounding*math.Abs(lo) || s.value > hi+rounding*math.Abs(hi) {
			t.Errorf("%s: %v is %v, want %v to %v\n%s", w.db.name, s.labels, s.value, lo, hi, expr)
		}
	}
}

// number is something that is known of an instance.
type number func(*instance) float64

// What the clients know.
var (
	connections number = func(i *instance) float64 { return i.connections }
	handoffs    number = func(i *instance) float64 { return i.handoffs }
	rejected    number = func(i *instance) float64 { return i.rejected }
	events      number = func(i *instance) float64 { return i.events }
	sentBytes   number = func(i *instance) float64 { return i.bytes }
	streams     number = func(i *instance) float64 { return float64(len(i.streams)) }
	heldStreams number = func(i *instance) float64 { return i.heldStreams }
	heldPaused  number = func(i *instance) float64 { return i.heldPaused }
	one         number = func(*instance) float64 { return 1 }
	none        number = func(*instance) float64 { return 0 }
	// -max-connections of each: what no limit on open files has cut down, or the instance's own page
	limit number = func(i *instance) float64 { return i.Metric("daemon_max_connections") }
	// the failures of handoffs and of streams that the rules count
	faults number = func(i *instance) float64 {
		return i.handoffErrors["timeout"] + i.handoffErrors["network"] + i.handoffErrors["other"] + i.handoffErrors["canceled"]
	}
)

// total adds the numbers of the instances that labels speak of.
func (n number) total(w *world, labels map[string]string) (sum float64) {
	for _, i := range w.of(labels) {
		sum += n(i)
	}
	return sum
}

// rate adds what their rates must be.
func (n number) rate(w *world, labels map[string]string) (sum float64) {
	for _, i := range w.of(labels) {
		sum += n(i) * w.perCount[i]
	}
	return sum
}

// gauge: exactly the number, while streams are held.
func gauge(series int, n number) truth {
	return truth{held: true, series: series, want: func(w *world, labels map[string]string) (lo, hi float64) {
		v := n.total(w, labels)
		return v, v
	}}
}

// rateOf: exactly the number's rate.
func rateOf(series int, n number) truth {
	return truth{series: series, want: func(w *world, labels map[string]string) (lo, hi float64) {
		v := n.rate(w, labels)
		return v, v
	}}
}

// countOf: exactly the number, when all is over.
func countOf(n number) truth {
	return truth{series: 1, want: func(w *world, labels map[string]string) (lo, hi float64) {
		v := n.total(w, labels)
		return v, v
	}}
}

// ratio: exactly one rate over another.
func ratio(series int, a, b number) truth {
	return truth{series: series, want: func(w *world, labels map[string]string) (lo, hi float64) {
		v := a.rate(w, labels) / b.rate(w, labels)
		return v, v
	}}
}

// within: the number lies between two others.
func within(held bool, series int, least, most number) truth {
	return truth{held: held, series: series, want: func(w *world, labels map[string]string) (lo, hi float64) {
		return least.total(w, labels), most.total(w, labels)
	}}
}

// byReason: the rate of each reason, all five of them.
func byReason(of func(*instance) map[string]float64) truth {
	return truth{series: 5, want: func(w *world, labels map[string]string) (lo, hi float64) {
		v := number(func(i *instance) float64 { return of(i)[labels["reason"]] }).rate(w, nil)
		return v, v
	}}
}

func handoffErrors(i *instance) map[string]float64 { return i.handoffErrors }
func streamErrors(i *instance) map[string]float64  { return i.streamErrors }

// placement: the two loops of an instance share its streams evenly.
var placement = truth{held: true, series: 4, want: func(w *world, labels map[string]string) (lo, hi float64) {
	if labels["loop"] != "0" && labels["loop"] != "1" {
		return math.NaN(), math.NaN()
	}
	half := heldStreams.total(w, labels) / 2
	return half, half
}}

// preempted is for how long the daemon may lose its processor between a call that the client sees the effect of and
// the look at the clock behind it: its times may be so much longer than the client's.
const preempted = 200 * time.Millisecond

// durationOf: the quantile lies in the buckets of what the clients know of it. Of order statistics, the one of the least
// possible times and that of the greatest bound the true one.
func durationOf(series int, q float64, metric string, who func(*instance) []times, least, most func(times) time.Duration) truth {
	return truth{series: series, want: func(w *world, labels map[string]string) (lo, hi float64) {
		var from, to []weighed
		for _, i := range w.of(labels) {
			for _, s := range who(i) {
				from = append(from, weighed{least(s), w.perCount[i]})
				to = append(to, weighed{most(s) + preempted, w.perCount[i]})
			}
		}
		upper := w.all[0].bounds(metric)
		first, _ := slices.BinarySearch(upper, quantile(q, from).Seconds())
		last, _ := slices.BinarySearch(upper, quantile(q, to).Seconds())
		if first > 0 {
			lo = upper[first-1]
		}
		return lo, upper[min(last, len(upper)-1)] // what lies above all bounds is given as the last of them
	}}
}

func ofStreams(i *instance) []times  { return i.streams }
func ofHandoffs(i *instance) []times { return slices.Concat(i.streams, i.refusedHandoffs) }

func firstByte(series int, q float64) truth {
	return durationOf(series, q, "daemon_time_to_first_byte_seconds", ofStreams,
		func(s times) time.Duration { return s.handoffMin }, func(s times) time.Duration { return s.firstByteMax })
}

// handoff: whoever has its first byte has been handed off.
func handoff(series int, q float64) truth {
	return durationOf(series, q, "daemon_handoff_duration_seconds", ofHandoffs,
		func(s times) time.Duration { return s.handoffMin }, func(s times) time.Duration { return s.firstByteMax })
}

func streamDuration(series int, q float64) truth {
	return durationOf(series, q, "daemon_stream_duration_seconds", ofStreams,
		func(s times) time.Duration { return s.durationMin }, func(s times) time.Duration { return s.durationMax })
}

// lag is nothing that a client sees: it is there, and no longer than the highest bucket.
func lag(series int) truth {
	return truth{series: series, want: func(w *world, labels map[string]string) (lo, hi float64) { return 1e-9, 2.5 }}
}

// bounds are the upper bounds of a histogram's buckets, from the instance's own page.
func (i *instance) bounds(metric string) (upper []float64) {
	i.t.Helper()
	for line := range strings.Lines(i.page("/metrics")) {
		rest, ok := strings.CutPrefix(line, metric+`_bucket{le="`)
		if !ok {
			continue
		}
		le, _, _ := strings.Cut(rest, `"`)
		v, err := strconv.ParseFloat(le, 64)
		if err != nil {
			i.t.Fatal(err)
		}
		if !math.IsInf(v, 1) {
			upper = append(upper, v)
		}
	}
	if len(upper) < 2 {
		i.t.Fatalf("no buckets of %s", metric)
	}
	return upper
}

// times scales a number.
func (n number) times(factor float64) number {
	return func(i *instance) float64 { return n(i) * factor }
}

// own is a number of the instance's own page, for what clients cannot know.
func own(metric string) number { return func(i *instance) float64 { return i.Metric(metric) } }

// The process: what clients know of it are bounds.
var (
	cpuMax      = number(func(*instance) float64 { return float64(runtime.NumCPU()) })
	cpuMin      = number(func(*instance) float64 { return 1e-6 })
	resident    = own("process_resident_memory_bytes")
	pendingMin  = heldPaused.times(16 << 10) // above the low watermark: else the stream would go on
	pendingMax  = heldPaused.times(72 << 10) // the high one and an event
	openFDsMax  = number(func(i *instance) float64 { return i.heldStreams + 100 })
	peakAtLeast = number(func(i *instance) float64 { return i.peakMin })
	peakAtMost  = number(func(i *instance) float64 { return i.peakMax })
)

// panels is what each panel of the dashboard must show, by title and query.
var panels = map[string]truth{
	"Instances up/A":             gauge(1, one),
	"Streams/A":                  gauge(1, heldStreams),
	"Full/A":                     full(1),
	"Handoffs/A":                 rateOf(1, handoffs),
	"Turned away/A":              ratio(1, rejected, connections),
	"First byte, p99/A":          firstByte(1, 0.99),
	"Loop lag, p99/A":            lag(1),
	"Draining/A":                 gauge(1, none),
	"Streams by instance/A":      gauge(2, heldStreams),
	"Streams by instance/B":      within(true, 2, peakAtLeast, peakAtMost),
	"Streams by instance/C":      gauge(2, limit),
	"Placement/A":                placement,
	"Client sockets/A":           gauge(2, heldStreams),
	"Handoffs per second/A":      rateOf(1, connections),
	"Handoffs per second/B":      rateOf(1, handoffs),
	"Handoffs per second/C":      rateOf(1, rejected),
	"Handoffs that failed/A":     byReason(handoffErrors),
	"Streams that ended early/A": byReason(streamErrors),
	"Events/A":                   rateOf(2, events),
	"Bytes/A":                    rateOf(2, sentBytes),
	"Time to first byte/A":       firstByte(1, 0.5),
	"Time to first byte/B":       firstByte(1, 0.95),
	"Time to first byte/C":       firstByte(1, 0.99),
	"Handoff/A":                  handoff(1, 0.5),
	"Handoff/B":                  handoff(1, 0.95),
	"Handoff/C":                  handoff(1, 0.99),
	"Loop lag/A":                 lag(1),
	"Loop lag/B":                 lag(1),
	"Loop lag/C":                 lag(1),
	"Stream duration/A":          streamDuration(1, 0.5),
	"Stream duration/B":          streamDuration(1, 0.95),
	"Stream duration/C":          streamDuration(1, 0.99),
	"Paused streams/A":           gauge(2, heldPaused),
	"Pending/A":                  within(true, 2, pendingMin, pendingMax),
	"Evicted/A":                  rateOf(2, none),
	"CPU/A":                      within(false, 2, cpuMin, cpuMax),
	"CPU per event/A":            cpuPerEvent,
	"Memory/A":                   within(true, 2, resident.times(0.3), resident.times(3)),
	"Memory/B":                   within(true, 2, one, resident.times(3)),
	"Memory per stream/A":        memoryPerStream,
	"Open files/A":               within(true, 2, heldStreams, openFDsMax),
	"Open files/B":               gauge(2, own("process_max_fds")),
	"Goroutines/A":               within(true, 2, one, one.times(100)),
	"Builds/A":                   gauge(2, one),
}

// full is the share of the possible streams that is open.
func full(series int) truth {
	return truth{held: true, series: series, want: func(w *world, labels map[string]string) (lo, hi float64) {
		v := heldStreams.total(w, labels) / limit.total(w, labels)
		return v, v
	}}
}

var cpuPerEvent = truth{series: 2, want: func(w *world, labels map[string]string) (lo, hi float64) {
	return cpuMin.total(w, labels) / events.rate(w, labels), cpuMax.total(w, labels) / events.rate(w, labels)
}}

var memoryPerStream = truth{held: true, series: 2, want: func(w *world, labels map[string]string) (lo, hi float64) {
	each := resident.total(w, labels) / heldStreams.total(w, labels)
	return each * 0.3, each * 3
}}

// pausedShare has an answer for each instance that has streams.
var pausedShare = truth{held: true, series: 2, want: func(w *world, labels map[string]string) (lo, hi float64) {
	v := heldPaused.total(w, labels) / heldStreams.total(w, labels)
	return v, v
}}

// records is what each recording rule must give, by its name.
var records = map[string]truth{
	"instance:daemon_connections_rejected:ratio_rate5m":     ratio(2, rejected, connections),
	"instance:daemon_handoff_errors:ratio_rate5m":           ratio(2, faults, connections),
	"instance:daemon_stream_errors:ratio_rate5m":            ratio(2, none, handoffs),
	"instance:daemon_active_streams:ratio":                  full(2),
	"instance:daemon_paused_streams:ratio":                  pausedShare,
	"instance:daemon_time_to_first_byte_seconds:p99_rate5m": firstByte(2, 0.99),
	"instance:daemon_handoff_duration_seconds:p99_rate5m":   handoff(2, 0.99),
	"instance:daemon_stream_duration_seconds:p50_rate5m":    streamDuration(2, 0.5),
	"instance:daemon_loop_lag_seconds:p99_rate5m":           lag(2),
	"instance:process_open_fds:ratio":                       within(true, 2, number(func(*instance) float64 { return 1e-6 }), one),
	"instance:daemon_resident_memory_bytes:per_stream":      memoryPerStream,
}

// counts are the counters themselves, by the query.
var counts = map[string]truth{
	"sum(daemon_connections_total)":                                     countOf(connections),
	"sum(daemon_handoffs_total)":                                        countOf(handoffs),
	"sum(daemon_connections_rejected_total)":                            countOf(rejected),
	"sum(daemon_events_sent_total)":                                     countOf(events),
	"sum(daemon_bytes_sent_total)":                                      countOf(sentBytes),
	"sum(daemon_stream_duration_seconds_count)":                         countOf(streams),
	"sum(daemon_time_to_first_byte_seconds_count)":                      countOf(streams),
	"sum(daemon_handoff_duration_seconds_count)":                        countOf(handoffs),
	"sum(daemon_handoff_errors_total{reason!=\"client_disconnected\"})": countOf(faults),
	"sum(daemon_active_streams)":                                        countOf(none),
	"sum(daemon_active_connections)":                                    countOf(none),
	"sum(daemon_pending_bytes)":                                         countOf(none),
}

// readme is what each query of the README must answer.
var readme = map[string]truth{
	"rate(daemon_connections_rejected_total[5m]) / rate(daemon_connections_total[5m])":           ratio(2, rejected, connections),
	"histogram_quantile(0.99, sum by (le) (rate(daemon_time_to_first_byte_seconds_bucket[5m])))": firstByte(1, 0.99),
	"daemon_active_streams / daemon_max_connections":                                             full(2),
	"daemon_paused_streams": gauge(2, heldPaused),
	"histogram_quantile(0.99, sum by (le) (rate(daemon_loop_lag_seconds_bucket[5m])))": lag(1),
}

// names lists keys for a message.
func names[V any](m map[string]V) string {
	return strings.Join(slices.Sorted(maps.Keys(m)), "\n")
}
