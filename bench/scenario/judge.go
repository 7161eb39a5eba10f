package scenario

import (
	"fmt"
	"runtime"

	"streaming-daemon-go/bench/load"
)

// collect takes over what the fleet has counted.
func (r *run) collect() error {
	l, err := r.fleet.Latencies()
	if err != nil {
		return err
	}
	res := r.result
	res.Handoff, res.FirstByte, res.Lateness = spreadOf(l.Handoff), spreadOf(l.FirstByte), spreadOf(l.Lateness)
	res.Gap, res.Stream = spreadOf(l.Gap), spreadOf(l.Duration)
	c := r.fleet.Counts()
	res.Clients = Clients{Opened: c.Opened, Started: c.Started, Finished: c.Finished, Left: c.Left, Evicted: c.Evicted,
		Retries: c.Retries, Events: c.Events, Bytes: c.Bytes, Faults: map[string]uint64{}}
	for _, f := range load.Faults() {
		if n := c.Faults[f]; n > 0 {
			res.Clients.Faults[f.String()] = n
		}
	}
	return nil
}

// judge adds what a reader of the result should know.
func (r *run) judge() {
	warn := func(format string, args ...any) {
		r.result.Warnings = append(r.result.Warnings, fmt.Sprintf(format, args...))
	}
	w := r.result.Window
	if w.Length > 0 {
		own := float64(w.HarnessCPU) / float64(w.Length)
		if own > 0.85*float64(r.o.Workers) {
			warn("the harness is the bottleneck: its loops were busy for %.0f%% of the window; try -workers %d or a lower rate",
				100*own/float64(r.o.Workers), r.o.Workers+1)
		}
		if busy := own + float64(w.CPU)/float64(w.Length); busy > 0.95*float64(runtime.NumCPU()) {
			warn("the machine is saturated: harness and target used %.2f of %d CPUs; latencies include the wait for one",
				busy, runtime.NumCPU())
		}
	}
	if f := r.result.FDs; f.After > f.Idle {
		warn("the target holds %d descriptors more than before, %v after the last client went", f.After-f.Idle, gonePatience)
	}
	if !r.p.Running() {
		warn("the target has ended: %s", r.p.Output())
	}
	if n := r.result.Clients.Retries; n > 0 {
		warn("the backlog of the handoff socket was full %d times: a web server would have answered 503", n)
	}
}

// Failed reports whether the target did something wrong: a fault, a descriptor left behind, or its own end.
func (res *Result) Failed() bool {
	return len(res.Clients.Faults) > 0 || res.FDs.After > res.FDs.Idle
}
