package main_test

import (
	"bytes"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// Goal: the numbers on the page are the truth, each of them. Method: a traffic of which every outcome is known, then
// every counter by its value; bytes and events are counted again by the clients.
func TestMetricsAreExact(t *testing.T) {
	t.Parallel()
	d := start(t, "-handoff-timeout", "300ms", "-demo-messages", "4")
	for name, value := range d.scrape() {
		if strings.HasPrefix(name, "daemon_") && !strings.HasPrefix(name, "daemon_build_info") && value != 0 &&
			name != "daemon_max_connections" && !strings.HasPrefix(name, "daemon_loop_lag_seconds") {
			t.Errorf("%s is %v before the first handoff", name, value)
		}
	}
	var bytesRead, events float64
	count := func(a answer) {
		bytesRead += float64(a.bytes)
		for _, e := range a.events {
			if e.name == "" && e.data != "[DONE]" {
				events++
			}
		}
	}
	const whole = 7 // of each kind
	for range whole {
		for _, kind := range kinds {
			a := d.ask(kind, "")
			if !a.complete() {
				t.Fatalf("%v: %+v", kind, a)
			}
			count(a)
		}
	}
	refuse := func(status int, kind fdrecv.Kind, payload string) {
		t.Helper()
		a := d.ask(kind, payload)
		a.refused(t, status)
		count(a)
	}
	refuse(http.StatusBadRequest, fdrecv.KindSeqpacket, `{"prompt":`)                                     // other
	refuse(http.StatusBadRequest, fdrecv.KindStream, `{"prompt":17}`)                                     // other
	refuse(http.StatusRequestEntityTooLarge, fdrecv.KindStream, strings.Repeat(" ", fdrecv.PayloadMax+1)) // other
	server, client := fdtest.TCPPair(t)
	defer server.Close()
	half := fdtest.Dial(t, d.path(fdrecv.KindStream), unix.SOCK_STREAM) // timeout, with a client
	defer half.Close()
	begun := time.Now()
	fdtest.SendFDs(t, half.Int(), []byte(`{"prompt":`), server.Int())
	a := parse(t, readAll(client), false)
	if took := time.Since(begun); took < 250*time.Millisecond || took > 4*time.Second { // 5 s is the default
		t.Errorf("a handoff timed out after %v, want 300ms", took)
	}
	a.refused(t, http.StatusRequestTimeout)
	count(a)
	silent := fdtest.Dial(t, d.path(fdrecv.KindSeqpacket), unix.SOCK_SEQPACKET) // timeout, without
	defer silent.Close()
	probe := fdtest.Dial(t, d.path(fdrecv.KindSeqpacket), unix.SOCK_SEQPACKET) // ends without a byte: client_disconnected
	_ = probe.Close()
	d.awaitMetric(`daemon_handoff_errors_total{reason="timeout"}`, 2)
	d.awaitMetric("daemon_active_connections", 0)

	samples := d.scrape()
	const streams = whole * 3
	for name, want := range map[string]float64{
		"daemon_connections_total":                                  streams + 6,
		"daemon_handoffs_total":                                     streams,
		`daemon_handoff_errors_total{reason="timeout"}`:             2,
		`daemon_handoff_errors_total{reason="canceled"}`:            0,
		`daemon_handoff_errors_total{reason="network"}`:             0,
		`daemon_handoff_errors_total{reason="client_disconnected"}`: 1,
		`daemon_handoff_errors_total{reason="other"}`:               3,
		`daemon_stream_errors_total{reason="timeout"}`:              0,
		`daemon_stream_errors_total{reason="canceled"}`:             0,
		`daemon_stream_errors_total{reason="network"}`:              0,
		`daemon_stream_errors_total{reason="client_disconnected"}`:  0,
		`daemon_stream_errors_total{reason="other"}`:                0,
		"daemon_connections_rejected_total":                         4, // with a client to be told
		"daemon_bytes_sent_total":                                   bytesRead,
		"daemon_events_sent_total":                                  events,
		"daemon_evicted_total":                                      0,
		"daemon_handoff_duration_seconds_count":                     streams,
		`daemon_handoff_duration_seconds_bucket{le="+Inf"}`:         streams,
		"daemon_stream_duration_seconds_count":                      streams,
		"daemon_time_to_first_byte_seconds_count":                   streams,
		"daemon_active_streams":                                     0,
		"daemon_active_connections":                                 0,
		"daemon_paused_streams":                                     0,
		"daemon_pending_bytes":                                      0,
		"daemon_peak_streams":                                       1, // one after the other
		`daemon_loop_streams{loop="0"}`:                             0,
		`daemon_loop_streams{loop="1"}`:                             0,
		"daemon_draining":                                           0,
	} {
		if got, ok := samples[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %t), want %v", name, got, ok, want)
		}
	}
	if events != streams*4 {
		t.Errorf("clients read %v events, want %d", events, streams*4)
	}
	// Four events, a millisecond apart: no stream is shorter, and none is measured as the time of all.
	if sum := samples["daemon_stream_duration_seconds_sum"]; sum < streams*0.003 || sum > 60 {
		t.Errorf("%d streams took %v s", streams, sum)
	}
}

// Each way in which a stream ends early has its reason.
func TestStreamErrorsByReason(t *testing.T) {
	t.Parallel()
	d := start(t, append(endless, "-max-stream-duration", "400ms")...)
	left := d.hold(fdrecv.KindSeqpacket, "")
	_ = left.Close()
	d.awaitMetric(`daemon_stream_errors_total{reason="client_disconnected"}`, 1)
	for _, kind := range kinds {
		a := d.ask(kind, "")
		if a.err != nil || a.last().name != "error" || !strings.Contains(a.last().data, "maximum duration") {
			t.Errorf("%v past -max-stream-duration: %+v", kind, a)
		}
	}
	d.awaitMetric(`daemon_stream_errors_total{reason="timeout"}`, 3)
}

// Prometheus's own judge of a page, after traffic, says nothing.
func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not on PATH (apt-get install prometheus has it)")
	}
	d := start(t)
	for _, kind := range kinds {
		d.ask(kind, "")
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(d.get(d.metricsURL()))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil || out.Len() > 0 {
		t.Errorf("%v: %s", err, &out)
	}
}

func TestHealthz(t *testing.T) {
	t.Parallel()
	d := start(t)
	if body := d.get(strings.TrimSuffix(d.metricsURL(), "/metrics") + "/healthz"); body != "{\"status\":\"ok\"}\n" {
		t.Errorf("%q", body)
	}
}
