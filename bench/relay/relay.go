package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
	"streaming-daemon-go/bench/wire"
)

// Transport is how the target reaches its upstream.
type Transport string

// The two: HTTP/1.1 in the clear, and HTTP/2 over TLS.
const (
	H1 Transport = "h1"
	H2 Transport = "h2"
)

// Config says what to measure.
type Config struct {
	Daemon      target.Spec // its Name is "daemon"
	Goroutines  target.Spec // the same relay made of net/http; Path empty: without it
	Mock        target.Spec
	Streams     map[Transport]int // at the same time; 0: not over this transport
	Rounds      int
	Duration    time.Duration // of the part that is measured
	Delay       time.Duration // between two events
	Rate        float64       // clients opened per second
	Workers     int           // loops of the harness; 0: half of the CPUs
	Goroutined  bool          // ask the daemon for its number of goroutines
	CancelTries bool          // measure cancellation too
}

// Run is what one run measured.
type Run struct {
	Round      int              `json:"round"`
	Transport  Transport        `json:"transport"`
	Contestant string           `json:"contestant"`
	Result     *scenario.Result `json:"result"`
	Upstream   time.Duration    `json:"upstream_cpu_ns"` // of mockllm, over the whole run
	// Goroutines of the daemon before the first stream and with all of them; -1: not known.
	GoroutinesIdle int             `json:"goroutines_idle"`
	GoroutinesFull int             `json:"goroutines_full"`
	Cancels        []time.Duration `json:"cancels_ns,omitempty"` // sorted
}

// Play runs everything, in turns, and calls done after each run. On an error what is done so far is given with it.
func Play(ctx context.Context, c Config, progress func(scenario.Progress), done func(Run)) ([]Run, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	var runs []Run
	contestants := []target.Spec{c.Daemon}
	if c.Goroutines.Path != "" {
		contestants = append(contestants, c.Goroutines)
	}
	for round := range c.Rounds {
		for _, t := range []Transport{H2, H1} {
			if c.Streams[t] == 0 {
				continue
			}
			for i := range contestants {
				spec := contestants[(i+round)%len(contestants)]
				run, err := c.one(ctx, spec, t, dir, progress)
				if err != nil {
					return runs, fmt.Errorf("%s over %s: %w", spec.Name, t, err)
				}
				run.Round = round + 1
				runs = append(runs, run)
				done(run)
			}
		}
	}
	return runs, nil
}

// spareEvents outlast the opening and the measured part.
const spareEvents = 10

func (c Config) options(t Transport) (scenario.Options, error) {
	n := c.Streams[t]
	whole := time.Duration(float64(n)/c.Rate*float64(time.Second)) + c.Duration
	return scenario.Options{
		Scenario: "paced", Streams: n, Rate: c.Rate, Duration: c.Duration, Delay: c.Delay, Workers: c.Workers, Relayed: true,
		Messages: int(whole/c.Delay) + spareEvents,
	}.WithDefaults()
}

// one starts the upstream and the contestant, plays, and stops both.
func (c Config) one(ctx context.Context, spec target.Spec, t Transport, dir string, progress func(scenario.Progress)) (run Run, err error) {
	o, err := c.options(t)
	if err != nil {
		return run, err
	}
	u, err := startUpstream(c.Mock, t, o.Messages, o.Delay)
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, u.stop()) }()
	metrics := ""
	if spec.Name == c.Daemon.Name && c.Goroutined {
		if metrics, err = freeAddress(); err != nil {
			return run, err
		}
	}
	spec.Args = append([]string{
		"-backend", "openai", "-openai-base", u.base, "-openai-insecure-tls=" + strconv.FormatBool(t == H2), "-default-model", "m",
		"-openai-idle-conn-timeout", "2s", // so that what is left in the end is a leak
		"-max-connections", strconv.Itoa(o.Streams + connectionsSpare), "-metrics-addr", metrics,
	}, spec.Args...)
	p, err := target.Start(ctx, spec, dir, o.Demo())
	if err != nil {
		return run, err
	}
	defer func() { err = errors.Join(err, p.Stop()) }()
	run = Run{Transport: t, Contestant: spec.Name, GoroutinesIdle: goroutines(ctx, metrics), GoroutinesFull: -1}
	var full sync.Once
	run.Result, err = scenario.Run(ctx, o, p, func(now scenario.Progress) {
		if now.Phase == "measuring" && now.Ahead > 0.5 {
			full.Do(func() { run.GoroutinesFull = goroutines(ctx, metrics) })
		}
		progress(now)
	})
	if err != nil {
		return run, err
	}
	run.Result.Series = nil
	if run.Upstream, err = u.watch.CPU(); err != nil {
		return run, err
	}
	if c.CancelTries {
		run.Cancels, err = cancels(ctx, p, u)
	}
	return run, err
}

// connectionsSpare is how many clients more than streams the target may hold. A stream is two descriptors over HTTP/1.1,
// so there is no room for many.
const connectionsSpare = 200

// freeAddress is one that nobody listens on now.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("relay: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// goroutines reads the target's number of goroutines from its metrics; -1 when it does not say.
func goroutines(ctx context.Context, addr string) int {
	if addr == "" {
		return -1
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return -1
	}
	client := &http.Client{Timeout: stopPatience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, "go_goroutines "); ok {
			if n, err := strconv.ParseFloat(strings.TrimSpace(value), 64); err == nil {
				return int(n)
			}
		}
	}
	return -1
}

// hasText reports whether a whole event of text is in what a client has read.
func hasText(got []byte) bool { return bytes.Contains(got, []byte(wire.Event)) }

// Failed reports whether a stream was not what it should be, or descriptors were left.
func (r Run) Failed() bool {
	return r.Result.Failed() || r.Result.Clients.Finished != uint64(r.Result.Options.Streams)
}
