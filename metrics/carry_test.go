package metrics_test

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/metrics"
)

// carriedOf takes what m carries through JSON, as an upgrade does.
func carriedOf(t *testing.T, m *metrics.Metrics) metrics.Carried {
	t.Helper()
	b, err := json.Marshal(m.Carry())
	if err != nil {
		t.Fatal(err)
	}
	var c metrics.Carried
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// Goal: no number of a predecessor is lost in a successor, none counted twice,
// and a field that is added to Snapshot is not forgotten. Method: three
// processes in a row, each counting the same; every field of the last one's
// sum is three times its own, but for those that belong to a process alone.
func TestCarryAddsUp(t *testing.T) {
	own := map[string]bool{"PeakStreams": true, "LoopStreams": true, "Draining": true, "MaxConnections": true}
	var m *metrics.Metrics
	for generation := range 3 {
		next := metrics.New(metrics.Build{}, fixed(busy()))
		if generation > 0 {
			next.SetCarried(carriedOf(t, m))
		}
		m = next
		m.ObserveHandoff(time.Millisecond)
		m.ObserveStream(3 * time.Second)
		m.ObserveFirstByte(time.Hour) // above every bound
		m.ObserveBackend(3 * time.Second)
		m.ObserveBackendFirstByte(time.Second)
	}
	one, sum := reflect.ValueOf(busy()), reflect.ValueOf(m.Carry().Snapshot)
	for i := range one.NumField() {
		name, was, now := one.Type().Field(i).Name, one.Field(i).Interface(), sum.Field(i).Interface()
		if own[name] {
			if name != "PeakStreams" && !reflect.DeepEqual(was, now) {
				t.Errorf("%s is %v, want this process's own %v", name, now, was)
			}
			continue
		}
		if want := triple(t, was); !reflect.DeepEqual(now, want) {
			t.Errorf("%s is %v, want %v", name, now, want)
		}
	}
	if peak := m.Carry().PeakStreams; peak != 3*busy().ActiveStreams {
		t.Errorf("PeakStreams is %d, which is not the %d streams that were open at a time", peak, 3*busy().ActiveStreams)
	}
	_, families := scrape(t, m)
	for _, name := range []string{"daemon_handoff_duration_seconds", "daemon_stream_duration_seconds", "daemon_time_to_first_byte_seconds",
		"daemon_backend_duration_seconds", "daemon_backend_ttfb_seconds"} {
		if families[name] == nil {
			t.Errorf("no %s on the page", name)
		}
	}
	c := m.Carry()
	for name, b := range map[string]metrics.Buckets{"handoff": c.Handoff, "stream": c.Stream, "first byte": c.FirstByte, "backend": c.Backend,
		"backend's first byte": c.BackendFirstByte} {
		var n uint64
		for _, count := range b.Counts {
			n += count
		}
		if n != 3 || len(b.Counts) != len(b.UpperSeconds)+1 {
			t.Errorf("%s: %d observations in %d buckets, %d bounds", name, n, len(b.Counts), len(b.UpperSeconds))
		}
	}
	if last := c.FirstByte.Counts[len(c.FirstByte.Counts)-1]; last != 3 || c.Stream.SumSeconds != 9 {
		t.Errorf("%d above every bound, streams of %v s", last, c.Stream.SumSeconds)
	}
}

func triple(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case int64:
		return 3 * v
	case uint64:
		return 3 * v
	case [metrics.NumReasons]uint64:
		for i := range v {
			v[i] *= 3
		}
		return v
	case []metrics.Backend:
		all := slices.Clone(v)
		for i, b := range all {
			b.Requests, b.Tokens, b.Streams, b.Open, b.Idle = 3*b.Requests, 3*b.Tokens, 3*b.Streams, 3*b.Open, 3*b.Idle
			b.Errors = slices.Clone(b.Errors)
			for j := range b.Errors {
				b.Errors[j].Count *= 3
			}
			all[i] = b
		}
		return all
	case metrics.Buckets:
		counts := make([]uint64, len(v.Counts))
		for i, n := range v.Counts {
			counts[i] = 3 * n
		}
		return metrics.Buckets{UpperSeconds: v.UpperSeconds, Counts: counts, SumSeconds: 3 * v.SumSeconds}
	}
	t.Fatalf("a field of type %T: say what a successor does with it", v)
	return nil
}

// A predecessor that is gone holds nothing; what it has counted stays.
func TestCarriedEnded(t *testing.T) {
	gone := metrics.Carried{Snapshot: busy()}.Ended()
	m := metrics.New(metrics.Build{}, fixed(metrics.Snapshot{}))
	m.SetCarried(gone)
	c := m.Carry()
	if c.ActiveConnections != 0 || c.ActiveStreams != 0 || c.PausedStreams != 0 || c.PendingBytes != 0 {
		t.Errorf("it still holds %+v", c.Snapshot)
	}
	if b := c.Backends[0]; b.Streams != 0 || b.Open != 0 || b.Idle != 0 || b.Requests != 701 || b.Tokens != 702 || b.Errors[0].Count != 706 {
		t.Errorf("its backend: %+v", b)
	}
	if c.BytesSent != busy().BytesSent || c.Connections != busy().Connections {
		t.Errorf("its counters are lost: %+v", c.Snapshot)
	}
}

// A predecessor may have had a backend, or a reason, that is not known here: what it counted is not lost, and what
// either process was given is left as it was.
func TestCarriedOtherBackends(t *testing.T) {
	own := busy()
	m := metrics.New(metrics.Build{}, fixed(own))
	before := []metrics.Backend{
		{Name: "other", Requests: 5, Errors: []metrics.BackendErrors{{Reason: "x", Count: 1}}},
		{Name: "openai", Requests: 10, Errors: []metrics.BackendErrors{{Reason: "limit", Count: 20}, {Reason: "new", Count: 30}}},
	}
	m.SetCarried(metrics.Carried{Snapshot: metrics.Snapshot{Backends: before}})
	page, _ := scrape(t, m)
	for _, want := range []string{
		`daemon_backend_requests_total{backend="other"} 5`, `daemon_backend_requests_total{backend="openai"} 711`,
		`daemon_backend_errors_total{backend="openai",reason="cut"} 706`, `daemon_backend_errors_total{backend="openai",reason="limit"} 727`,
		`daemon_backend_errors_total{backend="openai",reason="new"} 30`, `daemon_backend_errors_total{backend="other",reason="x"} 1`,
	} {
		if !strings.Contains(string(page), want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	if !reflect.DeepEqual(own.Backends, busy().Backends) {
		t.Errorf("the snapshot was written to: %+v", own.Backends)
	}
}

// Without a backend that calls an upstream the page has nothing of it.
func TestNoBackends(t *testing.T) {
	page, _ := scrape(t, metrics.New(metrics.Build{}, fixed(metrics.Snapshot{})))
	if strings.Contains(string(page), "backend_") || strings.Contains(string(page), "upstream") {
		t.Errorf("%s", page)
	}
}

// A predecessor of another version may have other bounds: adding them up would
// be a lie, and panicking the end of the page.
func TestCarriedWithOtherBounds(t *testing.T) {
	m := metrics.New(metrics.Build{}, fixed(busy()))
	m.ObserveStream(time.Second)
	other := metrics.Buckets{UpperSeconds: []float64{1, 2}, Counts: []uint64{1, 2, 3}, SumSeconds: 6}
	m.SetCarried(metrics.Carried{Stream: other, Snapshot: metrics.Snapshot{Connections: 1000, LoopLag: metrics.Buckets{}}})
	if c := m.Carry(); c.Stream.SumSeconds != 1 || c.Connections != busy().Connections+1000 {
		t.Errorf("streams of %v s, %d connections", c.Stream.SumSeconds, c.Connections)
	}
	scrape(t, m)
}
