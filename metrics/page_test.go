package metrics_test

import (
	"bytes"
	"fmt"
	"maps"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	vm "github.com/VictoriaMetrics/metrics"

	"streaming-daemon-go/metrics"
)

// scrape returns the page and its families; a page that breaks the format ends
// the test.
func scrape(t *testing.T, m *metrics.Metrics) ([]byte, map[string]*parsedFamily) {
	t.Helper()
	var page bytes.Buffer
	m.WritePrometheus(&page)
	families, err := parsePage(page.Bytes())
	if err != nil {
		t.Fatalf("%v in:\n%s", err, page.Bytes())
	}
	return page.Bytes(), families
}

func fixed(s metrics.Snapshot) func() metrics.Snapshot {
	return func() metrics.Snapshot { return s }
}

// busy is a snapshot in which every number is another one, so that no two can
// be swapped unseen.
func busy() metrics.Snapshot {
	return metrics.Snapshot{
		ActiveConnections: 101, ActiveStreams: 102, PeakStreams: 103, PausedStreams: 104, PendingBytes: 105,
		Connections: 201, Rejected: 202, Handoffs: 203, BytesSent: 1<<53 + 1, EventsSent: 205, Evicted: 206,
		AccessLogDropped: 207,
		HandoffErrors:    [metrics.NumReasons]uint64{301, 302, 303, 304, 305},
		StreamErrors:     [metrics.NumReasons]uint64{401, 402, 403, 404, 405},
		LoopStreams:      []int64{501, 502},
		LoopLag: metrics.Buckets{
			UpperSeconds: []float64{0.0001, 0.001, 0.01},
			Counts:       []uint64{5, 0, 2, 3},
			SumSeconds:   1.25,
		},
		Backends: []metrics.Backend{{Name: "openai", Requests: 701, Tokens: 702, Streams: 703, Open: 704, Idle: 705,
			Errors: []metrics.BackendErrors{{Reason: "cut", Count: 706}, {Reason: "limit", Count: 707}}}},
		Draining: true, MaxConnections: 601,
	}
}

// The whole interface that dashboards rely on, as name, type, label names. A
// family that is renamed, added, dropped or relabelled shows as a difference.
func TestNamesTypesAndLabels(t *testing.T) {
	want := strings.Fields(`
daemon_access_log_dropped_total:counter
daemon_active_connections:gauge
daemon_active_streams:gauge
daemon_backend_duration_seconds:histogram:le
daemon_backend_errors_total:counter:backend,reason
daemon_backend_requests_total:counter:backend
daemon_backend_tokens_total:counter:backend
daemon_backend_ttfb_seconds:histogram:le
daemon_build_info:gauge:goversion,revision,version
daemon_bytes_sent_total:counter
daemon_connections_rejected_total:counter
daemon_connections_total:counter
daemon_draining:gauge
daemon_events_sent_total:counter
daemon_evicted_total:counter
daemon_handoff_duration_seconds:histogram:le
daemon_handoff_errors_total:counter:reason
daemon_handoffs_total:counter
daemon_loop_lag_seconds:histogram:le
daemon_loop_streams:gauge:loop
daemon_max_connections:gauge
daemon_paused_streams:gauge
daemon_peak_streams:gauge
daemon_pending_bytes:gauge
daemon_stream_duration_seconds:histogram:le
daemon_stream_errors_total:counter:reason
daemon_time_to_first_byte_seconds:histogram:le
daemon_upstream_connections:gauge:state
daemon_upstream_streams:gauge
go_gc_cpu_seconds_total:counter
go_gc_duration_seconds:summary:quantile
go_gc_gogc_percent:gauge
go_gc_gomemlimit_bytes:gauge
go_goroutines:gauge
go_info:gauge:version
go_memstats_alloc_bytes:gauge
go_memstats_alloc_bytes_total:counter
go_memstats_frees_total:counter
go_memstats_heap_alloc_bytes:gauge
go_memstats_heap_idle_bytes:gauge
go_memstats_heap_inuse_bytes:gauge
go_memstats_heap_objects:gauge
go_memstats_heap_released_bytes:gauge
go_memstats_heap_sys_bytes:gauge
go_memstats_last_gc_time_seconds:gauge
go_memstats_mallocs_total:counter
go_memstats_next_gc_bytes:gauge
go_memstats_stack_inuse_bytes:gauge
go_memstats_sys_bytes:gauge
go_sched_gomaxprocs_threads:gauge
go_threads:gauge
process_cpu_seconds_total:counter
process_max_fds:gauge
process_open_fds:gauge
process_resident_memory_bytes:gauge
process_start_time_seconds:gauge
process_virtual_memory_bytes:gauge
`)
	_, families := scrape(t, metrics.New(metrics.Build{}, fixed(busy())))
	var got []string
	for name, f := range families {
		entry := name + ":" + f.kind
		if len(f.labels) > 0 {
			entry += ":" + strings.Join(f.labels, ",")
		}
		got = append(got, entry)
	}
	slices.Sort(got)
	for _, entry := range got {
		if !slices.Contains(want, entry) {
			t.Errorf("unexpected: %s", entry)
		}
	}
	for _, entry := range want {
		if !slices.Contains(got, entry) {
			t.Errorf("missing: %s", entry)
		}
	}
}

// Every number of a snapshot comes out under its own name. Compared as text:
// the value after bytes_sent is one that a float64 cannot hold.
func TestValues(t *testing.T) {
	m := metrics.New(metrics.Build{Version: `1.2"3\`, Revision: "ab\ncd\xff"}, fixed(busy()))
	page, _ := scrape(t, m)
	want := []string{
		"daemon_active_connections 101", "daemon_active_streams 102", "daemon_peak_streams 103",
		"daemon_paused_streams 104", "daemon_pending_bytes 105",
		"daemon_connections_total 201", "daemon_connections_rejected_total 202", "daemon_handoffs_total 203",
		"daemon_bytes_sent_total 9007199254740993", "daemon_events_sent_total 205", "daemon_evicted_total 206", "daemon_access_log_dropped_total 207",
		`daemon_handoff_errors_total{reason="timeout"} 301`,
		`daemon_handoff_errors_total{reason="canceled"} 302`,
		`daemon_handoff_errors_total{reason="network"} 303`,
		`daemon_handoff_errors_total{reason="client_disconnected"} 304`,
		`daemon_handoff_errors_total{reason="other"} 305`,
		`daemon_stream_errors_total{reason="timeout"} 401`,
		`daemon_stream_errors_total{reason="canceled"} 402`,
		`daemon_stream_errors_total{reason="network"} 403`,
		`daemon_stream_errors_total{reason="client_disconnected"} 404`,
		`daemon_stream_errors_total{reason="other"} 405`,
		`daemon_loop_streams{loop="0"} 501`, `daemon_loop_streams{loop="1"} 502`,
		`daemon_loop_lag_seconds_bucket{le="0.0001"} 5`,
		`daemon_loop_lag_seconds_bucket{le="0.001"} 5`,
		`daemon_loop_lag_seconds_bucket{le="0.01"} 7`,
		`daemon_loop_lag_seconds_bucket{le="+Inf"} 10`,
		"daemon_loop_lag_seconds_sum 1.25", "daemon_loop_lag_seconds_count 10",
		`daemon_backend_requests_total{backend="openai"} 701`, `daemon_backend_tokens_total{backend="openai"} 702`,
		"daemon_upstream_streams 703", `daemon_upstream_connections{state="open"} 704`, `daemon_upstream_connections{state="idle"} 705`,
		`daemon_backend_errors_total{backend="openai",reason="cut"} 706`, `daemon_backend_errors_total{backend="openai",reason="limit"} 707`,
		"daemon_draining 1", "daemon_max_connections 601",
		`daemon_build_info{version="1.2\"3\\",goversion="` + runtime.Version() + `",revision="ab\ncd` + "\uFFFD" + `"} 1`,
	}
	lines := strings.Split(string(page), "\n")
	for _, w := range want {
		if !slices.Contains(lines, w) {
			t.Errorf("no line %q", w)
		}
	}
	if t.Failed() {
		t.Logf("page:\n%s", page)
	}
}

// An idle daemon shows every series at 0 already: all five reasons, and a
// histogram whose bounds the read function does not know yet.
func TestIdleFromTheStart(t *testing.T) {
	_, families := scrape(t, metrics.New(metrics.Build{}, fixed(metrics.Snapshot{})))
	for _, name := range []string{"daemon_handoff_errors_total", "daemon_stream_errors_total"} {
		want := map[string]float64{}
		for _, reason := range []string{"timeout", "canceled", "network", "client_disconnected", "other"} {
			want[fmt.Sprintf("%s{reason=%q}", name, reason)] = 0
		}
		if got := families[name].samples; !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	for name, f := range families {
		for series, v := range f.samples {
			if strings.HasPrefix(name, "daemon_") && name != "daemon_build_info" && v != 0 {
				t.Errorf("%s = %v", series, v)
			}
		}
		if f.kind == "histogram" && len(f.samples) < 3 {
			t.Errorf("%s: %v", name, f.samples)
		}
	}
	if _, ok := families["daemon_build_info"].samples[fmt.Sprintf(
		`daemon_build_info{version="unknown",goversion=%q,revision="unknown"}`, runtime.Version())]; !ok {
		t.Errorf("build info: %v", families["daemon_build_info"].samples)
	}
}

func TestReasonString(t *testing.T) {
	if got := (metrics.NumReasons + 7).String(); got != "other" {
		t.Errorf("outside the set: %q, want other", got)
	}
}

// Observations land in the bucket whose bound is the first at or above them,
// and the bounds cover what dashboards ask for.
func TestObserve(t *testing.T) {
	tests := []struct {
		name        string
		observe     func(*metrics.Metrics, time.Duration)
		first, last time.Duration // lowest and highest finite bound
		bounds      int
	}{
		{"daemon_handoff_duration_seconds", (*metrics.Metrics).ObserveHandoff, 100 * time.Microsecond, 1638400 * time.Microsecond, 15},
		{"daemon_time_to_first_byte_seconds", (*metrics.Metrics).ObserveFirstByte, 100 * time.Microsecond, 13107200 * time.Microsecond, 18},
		{"daemon_stream_duration_seconds", (*metrics.Metrics).ObserveStream, 10 * time.Millisecond, 655360 * time.Millisecond, 17},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := metrics.New(metrics.Build{}, fixed(metrics.Snapshot{}))
			tt.observe(m, -time.Second) // counts as 0
			tt.observe(m, tt.first)
			tt.observe(m, tt.first+1)
			tt.observe(m, tt.last)
			tt.observe(m, tt.last+1)
			_, families := scrape(t, m)
			got := families[tt.name].samples
			if n := len(got) - 3; n != tt.bounds { // without +Inf, _sum, _count
				t.Errorf("%d bounds, want %d", n, tt.bounds)
			}
			le := func(d time.Duration) float64 {
				series := fmt.Sprintf(`%s_bucket{le="%v"}`, tt.name, float64(d.Microseconds())/1e6) // Seconds is off by a last bit
				v, ok := got[series]
				if !ok {
					t.Errorf("no %s in %v", series, got)
				}
				return v
			}
			for bound, want := range map[time.Duration]float64{tt.first: 2, 2 * tt.first: 3, tt.last / 2: 3, tt.last: 4} {
				if v := le(bound); v != want {
					t.Errorf("le %v: %v, want %v", bound, v, want)
				}
			}
			if n := got[tt.name+"_count"]; n != 5 {
				t.Errorf("count %v, want 5", n)
			}
			want := (2*tt.first + 2*tt.last + 2).Seconds()
			if sum := got[tt.name+"_sum"]; sum < want*0.999999 || sum > want*1.000001 {
				t.Errorf("sum %v, want %v", sum, want)
			}
			for other, f := range families {
				if n := f.samples[other+"_count"]; other != tt.name && strings.HasPrefix(other, "daemon_") && n != 0 {
					t.Errorf("%s counted %v as well", other, n)
				}
			}
		})
	}
}

// A histogram that would lie is a bug of the read function and says so.
func TestBrokenBucketsPanic(t *testing.T) {
	tests := []struct {
		name string
		b    metrics.Buckets
	}{
		{"no count for +Inf", metrics.Buckets{UpperSeconds: []float64{1, 2}, Counts: []uint64{1, 2}}},
		{"no counts", metrics.Buckets{UpperSeconds: []float64{1}}},
		{"falling bounds", metrics.Buckets{UpperSeconds: []float64{2, 1}, Counts: []uint64{1, 2, 3}}},
		{"equal bounds", metrics.Buckets{UpperSeconds: []float64{1, 1}, Counts: []uint64{1, 2, 3}}},
		{"infinite bound", metrics.Buckets{UpperSeconds: []float64{1, inf()}, Counts: []uint64{1, 2, 3}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("exposed without a word")
				}
			}()
			var page bytes.Buffer
			metrics.New(metrics.Build{}, fixed(metrics.Snapshot{LoopLag: tt.b})).WritePrometheus(&page)
		})
	}
}

func inf() float64 { zero := 0.0; return 1 / zero }

// Goal: no lock of ours is held while read runs, and two scrapes run at once.
// Method: the first read waits for the second one, which can only come from a
// second scrape; meanwhile every observation is made. A lock held across read
// is a deadlock here, and the race detector watches the rest.
func TestScrapesAtOnce(t *testing.T) {
	var m *metrics.Metrics
	var arrived sync.WaitGroup
	arrived.Add(2)
	m = metrics.New(metrics.Build{}, func() metrics.Snapshot {
		arrived.Done()
		arrived.Wait()
		m.ObserveHandoff(time.Millisecond)
		m.ObserveStream(time.Millisecond)
		m.ObserveFirstByte(time.Millisecond)
		return busy()
	})
	var scrapes sync.WaitGroup
	pages := make([]bytes.Buffer, 2)
	for i := range pages {
		scrapes.Go(func() { m.WritePrometheus(&pages[i]) })
	}
	scrapes.Wait()
	for i := range pages {
		families, err := parsePage(pages[i].Bytes())
		if err != nil {
			t.Fatal(err)
		}
		name := "daemon_handoff_duration_seconds"
		if n := families[name].samples[name+"_count"]; n != 1 && n != 2 {
			t.Errorf("scrape %d saw %v handoffs, want its own and perhaps the other's", i, n)
		}
	}
}

// HELP and TYPE stand once even when another part of the process switches the
// library's metadata on, which is global.
func TestLibraryMetadataDoesNotShow(t *testing.T) {
	vm.ExposeMetadata(true)
	defer vm.ExposeMetadata(false)
	scrape(t, metrics.New(metrics.Build{}, fixed(busy())))
}

// promtool is the judge that operators use: it parses the page and has no
// finding on any line. Without it the strict parser is the judge, as in the
// other tests.
func TestPromtoolHasNoFinding(t *testing.T) {
	m := metrics.New(metrics.Build{Version: "1.0.0", Revision: "abc"}, fixed(busy()))
	m.ObserveHandoff(time.Millisecond)
	page, _ := scrape(t, m)
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Logf("promtool is not installed (%v): the page went through the parser of this test only", err)
		return
	}
	cmd := exec.CommandContext(t.Context(), promtool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(page)
	out, err := cmd.CombinedOutput()
	if err != nil || len(bytes.TrimSpace(out)) != 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
