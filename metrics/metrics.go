package metrics

import (
	"io"
	"sync/atomic"
	"time"

	vm "github.com/VictoriaMetrics/metrics"
)

// Build says which build of the daemon runs. An empty field is exposed as
// "unknown": Prometheus takes an empty label for an absent one.
type Build struct {
	Version  string // release, as -version prints it
	Revision string // commit
}

// Metrics is the page of one daemon. Make it with New. Every method may be
// called from any goroutine.
type Metrics struct {
	build Build           // immutable after New, no field empty
	read  func() Snapshot // immutable after New

	startSeconds float64 // when the process started, Unix time; 0 when unknown

	handoff   *durations
	stream    *durations
	firstByte *durations

	backend          *durations // over all backends
	backendFirstByte *durations

	carried atomic.Pointer[Carried] // what predecessors have counted; nil: there was none

	set *vm.Set // the writers of the page, in order
}

// New returns the metrics of a daemon whose counts come from read.
//
// read is called once per scrape, on the scraper's goroutine: it may run twice
// at the same time, it may take its time (it is the scrape that waits), and no
// lock of this package is held meanwhile, so it may even observe. It must not
// be nil.
func New(build Build, read func() Snapshot) *Metrics {
	if read == nil {
		panic("metrics: New without a read function")
	}
	if build.Version == "" {
		build.Version = "unknown"
	}
	if build.Revision == "" {
		build.Revision = "unknown"
	}
	m := &Metrics{
		build:        build,
		read:         read,
		startSeconds: processStart(),
		handoff: newDurations("daemon_handoff_duration_seconds",
			"Time from accepting a handoff connection to having its descriptor and whole payload.", handoffBounds),
		stream: newDurations("daemon_stream_duration_seconds",
			"Time from a handoff to the close of its client socket.", streamBounds),
		firstByte: newDurations("daemon_time_to_first_byte_seconds",
			"Time from a handoff to the first byte written to its client.", firstByteBounds),
		backend: newDurations("daemon_backend_duration_seconds",
			"Time from asking the upstream to the end of the completion.", streamBounds),
		backendFirstByte: newDurations("daemon_backend_ttfb_seconds",
			"Time from asking the upstream to the first byte of its answer's body.", firstByteBounds),
		set: vm.NewSet(),
	}
	for _, write := range []func(*page){m.writeDaemon, writeRuntime, m.writeProcess} {
		m.set.RegisterMetricsWriter(func(w io.Writer) {
			p := page{buf: make([]byte, 0, 8<<10)} // bytes; about what the largest of the parts takes
			write(&p)
			w.Write(p.buf) // the scraper's connection failed: nobody is left to tell
		})
	}
	return m
}

// ObserveHandoff counts one handoff that took d from accept to its whole
// payload. It takes a mutex for some tens of nanoseconds: once per stream,
// never per event.
func (m *Metrics) ObserveHandoff(d time.Duration) { m.handoff.observe(d) }

// ObserveStream counts one stream that held its client socket for d. Cost as
// ObserveHandoff.
func (m *Metrics) ObserveStream(d time.Duration) { m.stream.observe(d) }

// ObserveFirstByte counts one stream whose first byte was written d after its
// handoff. Cost as ObserveHandoff.
func (m *Metrics) ObserveFirstByte(d time.Duration) { m.firstByte.observe(d) }

// ObserveBackend counts one completion that ended d after the upstream was
// asked. Cost as ObserveHandoff.
func (m *Metrics) ObserveBackend(d time.Duration) { m.backend.observe(d) }

// ObserveBackendFirstByte counts one completion whose first byte came d after
// the upstream was asked. Cost as ObserveHandoff.
func (m *Metrics) ObserveBackendFirstByte(d time.Duration) { m.backendFirstByte.observe(d) }

// WritePrometheus writes the whole page to w, in a few writes. A write error
// is w's to keep: the page is made anew at each call. A panic of the read
// function passes through.
func (m *Metrics) WritePrometheus(w io.Writer) { m.set.WritePrometheus(w) }
