package scenario

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/bench/load"
)

// watchEvery is how often a run is looked at for its charts and its progress line.
const watchEvery = 250 * time.Millisecond

// enter names what goes on; done says how much of it is behind us, nil: not known.
func (r *run) enter(phase string, done func(load.Counts) float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.done = phase, done
}

// watch looks at the run until ctx ends. The series is read when it has returned.
func (r *run) watch(ctx context.Context, progress func(Progress)) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p, ok := r.look()
		if !ok {
			continue
		}
		r.result.Series = append(r.result.Series, p.Moment)
		if progress != nil {
			progress(p)
		}
	}
}

// look is false between fleets, and when the target has gone.
func (r *run) look() (p Progress, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock() // held: the fleet must not be closed meanwhile
	if r.current == nil {
		return p, false
	}
	cpu, err := r.p.CPU()
	if err != nil {
		return p, false
	}
	p.Phase, p.Counts = r.phase, r.current.Counts()
	if r.done != nil {
		p.Ahead = min(max(r.done(p.Counts), 0), 1)
	}
	p.Moment = Moment{At: time.Since(r.began), Live: p.Counts.Live(), Events: p.Counts.Events, CPU: cpu,
		RSS: residentBytes(r.p.PID), Harness: ownCPU()}
	return p, true
}

// residentBytes is quicker and less exact than Process.Sample; 0: not readable.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/statm")
	f := strings.Fields(string(b))
	if err != nil || len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
