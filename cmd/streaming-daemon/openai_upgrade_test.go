package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
)

// gated is an API whose completions have two pieces. It answers the prompt "fail" with an error; one that begins with
// "hold" gets the second piece when the test opens its gate.
type gated struct {
	base        string
	asked, open atomic.Int64 // completions so far; connections now

	mu    sync.Mutex
	gates map[string]chan struct{} // by prompt; guarded by mu
}

func newGated(t *testing.T) *gated {
	t.Helper()
	g := &gated{gates: map[string]chan struct{}{}}
	server := httptest.NewUnstartedServer(g)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			g.open.Add(1)
		case http.StateClosed:
			g.open.Add(-1)
		}
	}
	server.Start()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	g.base = server.URL + "/v1"
	return g
}

func (g *gated) gate(prompt string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gates[prompt] == nil {
		g.gates[prompt] = make(chan struct{})
	}
	return g.gates[prompt]
}

func (g *gated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.asked.Add(1)
	var body struct{ Messages []struct{ Content string } }
	prompt := "fail"
	if err := json.NewDecoder(r.Body).Decode(&body); err == nil && len(body.Messages) == 1 {
		prompt = body.Messages[0].Content
	}
	if prompt == "fail" {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusInternalServerError)
		return
	}
	piece := func(delta, finish string) {
		_, _ = fmt.Fprintf(w, "data: {\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]}\n\n", delta, finish)
		_ = http.NewResponseController(w).Flush()
	}
	w.Header().Set("Content-Type", "text/event-stream")
	piece(`"content":"one "`, "null")
	if strings.HasPrefix(prompt, "hold") {
		select {
		case <-g.gate(prompt):
		case <-r.Context().Done():
			return
		}
	}
	piece(`"content":"two"`, "null")
	piece("", `"stop"`)
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// falls watches counters of the daemon until stop is closed. The channel gives what was wrong, and is closed.
func (l *line) falls(stop <-chan struct{}, counters ...string) <-chan error {
	faults, url := make(chan error, 1), l.metricsURL()
	go func() {
		defer close(faults)
		last := make([]float64, len(counters))
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			for i, name := range counters {
				now, err := scrapeOne(url, name)
				if err == nil && now < last[i] {
					err = fmt.Errorf("%s fell from %v to %v", name, last[i], now)
				}
				if err != nil {
					faults <- err
					return
				}
				last[i] = now
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	return faults
}

// own is how many streams the process that answers has on its own loops; its other gauges count its predecessors' too.
func (l *line) own() (n float64) {
	l.t.Helper()
	for name, v := range l.scrape() {
		if strings.HasPrefix(name, "daemon_loop_streams{") {
			n += v
		}
	}
	return n
}

// Goal: an upgrade is nothing to a completion, and the backend's metrics go on over it. Method: a completion that the
// upstream holds up until the successor has one of its own, which it holds up until the old process is gone, and another
// upgrade behind both; each time every count must be what the clients have seen, and the gauges what the upstream sees.
func TestUpgradeUnderCompletions(t *testing.T) {
	t.Parallel()
	api := newGated(t)
	l := startLine(t, setup{args: []string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1"}})
	const (
		requests = `daemon_backend_requests_total{backend="openai"}`
		tokens   = `daemon_backend_tokens_total{backend="openai"}`
		ended    = `daemon_backend_duration_seconds_count`
		begun    = `daemon_backend_ttfb_seconds_count`
		streams  = `daemon_upstream_streams`
		open     = `daemon_upstream_connections{state="open"}`
	)
	failures := func(reason string) string {
		return fmt.Sprintf("daemon_backend_errors_total{backend=%q,reason=%q}", "openai", reason)
	}
	const whole = 3
	for range whole {
		if got := completion(t, l.ask(fdrecv.KindSeqpacket, `{"prompt":"x"}`)); got != "one two" {
			t.Fatalf("%q", got)
		}
	}
	l.ask(fdrecv.KindStream, `{"prompt":"fail"}`).refused(t, http.StatusBadGateway)
	l.ask(fdrecv.KindStream, `{"prompt":"x","temperature":"warm"}`).refused(t, http.StatusBadRequest)
	// held takes up the n-th completion that the upstream holds up.
	held := func(n int) <-chan raw {
		return readLater(l.hold(fdrecv.KindStream, fmt.Sprintf(`{"prompt":"hold %d"}`, n)))
	}
	clients := []<-chan raw{held(0)}
	l.awaitMetric("daemon_active_streams", 1)
	counts := map[string]float64{requests: whole + 3, tokens: 2*whole + 1, ended: whole + 1, begun: whole + 2, streams: 1,
		failures("status"): 1, failures("bad_payload"): 1, failures("canceled"): 0, failures("broken"): 0}
	check := func(when string) {
		t.Helper()
		var wrong []string
		// What a predecessor has counted is known a second later at most, and connections end when they end.
		if holds(patience, func() bool {
			wrong = nil
			counts[open] = float64(api.open.Load())
			samples := l.scrape()
			for name, want := range counts {
				if got, ok := samples[name]; !ok || got != want {
					wrong = append(wrong, fmt.Sprintf("%s is %v (there: %t), want %v", name, got, ok, want))
				}
			}
			return wrong == nil
		}) {
			return
		}
		t.Fatalf("%s:\n%s", when, strings.Join(wrong, "\n"))
	}
	check("before the upgrade")
	stop := make(chan struct{})
	fallen := l.falls(stop, requests, tokens, ended, begun, failures("status"))

	l.mustUpgrade()
	eventually(t, "the successor to be who answers", func() bool { return l.own() == 0 })
	check("after the upgrade")
	// Both accept for a moment: a client is the successor's when that process has placed it.
	eventually(t, "a completion of the successor's own", func() bool {
		clients = append(clients, held(len(clients)))
		counts[requests]++
		counts[tokens]++
		counts[begun]++
		counts[streams]++
		return l.own() > 0
	})
	check("with completions in both")
	finish := func(n int) {
		t.Helper()
		select {
		case r := <-clients[n]:
			t.Fatalf("completion %d ends before the upstream does: %v after %q", n, r.err, r.bytes)
		default:
		}
		close(api.gate(fmt.Sprintf("hold %d", n)))
		// What hold has read of it is the head and the first piece.
		if a := parse(t, <-clients[n], true); !a.complete() || len(a.events) != 3 || a.events[0].data != `{"content":"two"}` {
			t.Errorf("the rest of completion %d: %v after %q", n, a.err, a.body)
		}
		counts[tokens]++
		counts[ended]++
		counts[streams]--
	}
	young := len(clients) - 1 // the others are the old process's
	for n := range young {
		finish(n)
	}
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d of the old process", code)
	}
	l.awaitLog("the predecessor has ended")
	check("after the end of the old process")
	finish(young)
	check("after all completions")

	l.mustUpgrade()
	eventually(t, "both predecessors to end", func() bool {
		return strings.Count(l.log.String(), "the predecessor has ended") == 2
	})
	check("after another upgrade")
	if got := completion(t, l.ask(fdrecv.KindStream, `{"prompt":"x"}`)); got != "one two" {
		t.Errorf("%q", got)
	}
	counts[requests]++
	counts[tokens] += 2
	counts[ended]++
	counts[begun]++
	check("at the end")
	close(stop)
	for err := range fallen {
		t.Error(err)
	}
	if asked := api.asked.Load(); float64(asked) != counts[requests]-1 { // the bad payload's is not for the upstream
		t.Errorf("the upstream was asked for %d completions, %v were counted", asked, counts[requests])
	}
	l.kill(syscall.SIGTERM)
	l.awaitEnd()
	eventually(t, "the upstream's connections to be closed", func() bool { return api.open.Load() == 0 })
}

// An old process that is killed takes its completion with it: what it has counted stays, what it held is gone.
func TestKilledPredecessorHoldsNoCompletion(t *testing.T) {
	t.Parallel()
	api := newGated(t)
	l := startLine(t, setup{args: []string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1"}})
	l.hold(fdrecv.KindStream, `{"prompt":"hold"}`)
	l.mustUpgrade()
	eventually(t, "the successor to be who answers", func() bool { return l.own() == 0 })
	l.awaitMetric("daemon_upstream_streams", 1)
	l.awaitMetric(`daemon_upstream_connections{state="open"}`, 1)
	l.signal(syscall.SIGKILL)
	if code := l.wait(); code != -1 {
		t.Errorf("exit code %d of a process that is killed", code)
	}
	l.awaitMetric("daemon_upstream_streams", 0)
	l.awaitMetric(`daemon_upstream_connections{state="open"}`, 0)
	if n := l.metric(`daemon_backend_requests_total{backend="openai"}`); n != 1 {
		t.Errorf("%v completions are counted, want that of the killed process", n)
	}
}
