package scenario

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/target"
)

// Progress is told while a run goes on, about four times a second, from a goroutine of its own.
type Progress struct {
	Phase  string
	Counts load.Counts
	Ahead  float64 // 0 to 1: how much of the phase is done
	Moment Moment
}

// run is one run under way.
type run struct {
	o       Options
	p       *target.Process
	fleet   *load.Fleet
	result  *Result
	began   time.Time
	mu      sync.Mutex
	phase   string                    // guarded by mu
	done    func(load.Counts) float64 // guarded by mu
	current *load.Fleet               // guarded by mu; nil between fleets
}

// Run plays o against p, which must have been started with o.Demo. o must come from WithDefaults. It returns an error
// when the run itself failed; faults of streams are in the result.
func Run(ctx context.Context, o Options, p *target.Process, progress func(Progress)) (*Result, error) {
	r := &run{o: o, p: p, began: time.Now(), result: &Result{Target: p.Name, Options: o, Began: time.Now()}}
	idle, err := p.Sample()
	if err != nil {
		return nil, err
	}
	r.result.Memory.Idle, r.result.FDs.Idle = idle.RSS, idle.FDs
	r.result.Memory.KernelIdle = target.ReadKernel()

	watchDone := make(chan struct{})
	watchCtx, stopWatch := context.WithCancel(ctx)
	go func() {
		defer close(watchDone)
		r.watch(watchCtx, progress)
	}()
	err = r.play(ctx)
	stopWatch()
	<-watchDone
	if err != nil {
		return nil, fmt.Errorf("scenario: %s against %s: %w", o.Scenario, p.Name, err)
	}
	r.judge()
	return r.result, nil
}

func (r *run) play(ctx context.Context) error {
	if r.o.Scenario == "slow" {
		if err := r.alone(ctx); err != nil {
			return err
		}
	}
	if err := r.startFleet(r.o); err != nil {
		return err
	}
	defer r.stopFleet()
	var err error
	switch r.o.Scenario {
	case "churn":
		err = r.churn(ctx)
	case "leave":
		err = r.leave(ctx)
	case "storm":
		err = r.storm(ctx)
	default:
		err = r.stay(ctx)
	}
	if err != nil {
		return err
	}
	return r.collect()
}

func (r *run) startFleet(o Options) (err error) {
	r.fleet, err = load.NewFleet(o.fleet(r.p))
	r.mu.Lock()
	r.current = r.fleet
	r.mu.Unlock()
	return err
}

func (r *run) stopFleet() {
	r.mu.Lock()
	r.current = nil
	r.mu.Unlock()
	r.fleet.Close()
}

// stay is hold, paced and slow: open all, measure for a while, leave.
func (r *run) stay(ctx context.Context) error {
	if err := r.openAll(ctx); err != nil {
		return err
	}
	if err := r.window(ctx, r.timed(ctx, "measuring")); err != nil {
		return err
	}
	if err := r.sampleFull(); err != nil {
		return err
	}
	if r.o.endless() {
		return r.allLeave(ctx)
	}
	if err := r.fleet.LeaveSlow(); err != nil {
		return err
	}
	return r.allEnd(ctx)
}

// alone is the first half of slow: the same readers without the slow ones.
func (r *run) alone(ctx context.Context) error {
	o := r.o
	o.Streams -= int(float64(o.Streams) * o.SlowShare)
	o.SlowShare = 0
	if err := r.startFleet(o); err != nil {
		return err
	}
	defer r.stopFleet()
	whole := r.o
	r.o = o
	defer func() { r.o = whole }()
	if err := r.openAll(ctx); err != nil {
		return err
	}
	if err := r.window(ctx, r.timed(ctx, "without slow clients")); err != nil {
		return err
	}
	l, err := r.fleet.Latencies()
	if err != nil {
		return err
	}
	if n := r.fleet.Counts().FaultsAll(); n > 0 {
		return fmt.Errorf("%d faults before the slow clients came", n)
	}
	r.result.Alone = &Alone{FirstByte: spreadOf(l.FirstByte), Lateness: spreadOf(l.Lateness), Gap: spreadOf(l.Gap)}
	return r.allLeave(ctx)
}

func (r *run) churn(ctx context.Context) error {
	r.enter("warming up", nil)
	if err := r.fleet.Open(1<<40, r.o.Concurrency, r.o.Rate); err != nil {
		return err
	}
	if err := sleep(ctx, min(time.Second, r.o.Duration/4)); err != nil {
		return err
	}
	if err := r.window(ctx, r.timed(ctx, "measuring")); err != nil {
		return err
	}
	if err := r.sampleFull(); err != nil {
		return err
	}
	if err := r.fleet.Open(0, r.o.Concurrency, 0); err != nil {
		return err
	}
	return r.allEnd(ctx)
}

func (r *run) leave(ctx context.Context) error {
	return r.window(ctx, func() error {
		if err := r.openAll(ctx); err != nil {
			return err
		}
		if err := r.sampleFull(); err != nil {
			return err
		}
		return r.allEnd(ctx)
	})
}

// storm has its connections ready before the first handoff, as long as descriptors last: two for each then.
func (r *run) storm(ctx context.Context) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	ready := uint64(2*r.o.Streams+fdsSpare) <= limit.Cur
	if ready {
		if err := r.prepare(ctx); err != nil {
			return err
		}
	}
	err := r.window(ctx, func() error {
		var err error
		if ready {
			err = r.fleet.Release()
		} else {
			err = r.fleet.Open(r.o.Streams, 0, 0)
		}
		if err != nil {
			return err
		}
		return r.allStarted(ctx)
	})
	if err != nil {
		return err
	}
	if err := sleep(ctx, settle); err != nil {
		return err
	}
	if err := r.sampleFull(); err != nil {
		return err
	}
	return r.allLeave(ctx)
}

func (r *run) prepare(ctx context.Context) error {
	r.enter("connecting", func(c load.Counts) float64 { return float64(c.Opened) / float64(r.o.Streams) })
	if err := errors.Join(r.fleet.HoldBack(), r.fleet.Open(r.o.Streams, 0, 0)); err != nil {
		return err
	}
	return r.wait(ctx, firstPatient, func(c load.Counts) bool { return int(c.Opened) == r.o.Streams })
}

// openAll returns when each client has got its first byte, or met its end.
func (r *run) openAll(ctx context.Context) error {
	if err := r.fleet.Record(true, r.o.Scenario == "leave"); err != nil {
		return err
	}
	if err := r.fleet.Open(r.o.Streams, 0, r.o.Rate); err != nil {
		return err
	}
	if err := r.allStarted(ctx); err != nil {
		return err
	}
	if r.o.Scenario == "leave" {
		return nil
	}
	return sleep(ctx, settle)
}

func (r *run) allStarted(ctx context.Context) error {
	n := float64(r.o.Streams)
	r.enter("opening", func(c load.Counts) float64 { return float64(c.Started) / n })
	opening := firstPatient
	if r.o.Rate > 0 {
		opening += time.Duration(n / r.o.Rate * float64(time.Second))
	}
	err := r.wait(ctx, opening, func(c load.Counts) bool { return c.Started+c.FaultsAll()+c.Left >= uint64(r.o.Streams) || r.stalled(c) })
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil // who has got nothing by now is found when the run ends
	}
	return err
}

// stalled clients do not read, so nothing says that they started.
func (r *run) stalled(c load.Counts) bool {
	return r.o.SlowShare > 0 && c.Handed+c.FaultsAll() >= uint64(r.o.Streams)
}

// allEnd waits for the whole streams; one that goes on for too long is a fault.
func (r *run) allEnd(ctx context.Context) error {
	live := float64(max(r.fleet.Counts().Live(), 1))
	r.enter("ending", func(c load.Counts) float64 { return 1 - float64(c.Live())/live })
	err := r.wait(ctx, r.o.lasts()+endPatience, func(c load.Counts) bool { return c.Live() == 0 })
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = r.fleet.Abandon()
	}
	if err != nil {
		return err
	}
	return r.gone(ctx)
}

// allLeave closes every client at once.
func (r *run) allLeave(ctx context.Context) error {
	if err := r.fleet.LeaveAll(); err != nil {
		return err
	}
	return r.gone(ctx)
}

// gone waits until the target has closed its ends, and looks at what is left.
func (r *run) gone(ctx context.Context) error {
	r.enter("closing", nil)
	deadline := time.Now().Add(gonePatience)
	for {
		s, err := r.p.Sample()
		if err != nil {
			return err
		}
		r.result.Memory.After, r.result.FDs.After = s.RSS, s.FDs
		if s.FDs <= r.result.FDs.Idle || time.Now().After(deadline) {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// wait is Fleet.Wait with a bound.
func (r *run) wait(ctx context.Context, patience time.Duration, done func(load.Counts) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.fleet.Wait(ctx, func(c load.Counts) bool { return done(c) || !r.p.Running() })
}

// timed is a window's part that just lasts.
func (r *run) timed(ctx context.Context, phase string) func() error {
	return func() error {
		start := time.Now()
		r.enter(phase, func(load.Counts) float64 { return float64(time.Since(start)) / float64(r.o.Duration) })
		return sleep(ctx, r.o.Duration)
	}
}

// window measures what happens during during.
func (r *run) window(ctx context.Context, during func() error) error {
	if err := r.fleet.Record(true, true); err != nil {
		return err
	}
	before, err := r.p.Sample()
	if err != nil {
		return err
	}
	own, cpu, counts, start := ownCPU(), before.CPU, r.fleet.Counts(), time.Now()
	if cpu, err = r.p.CPU(); err != nil { // again: Sample takes its time
		return err
	}
	if err := during(); err != nil {
		return err
	}
	cpuEnd, err := r.p.CPU()
	if err != nil {
		return err
	}
	ended, ownEnd, length := r.fleet.Counts(), ownCPU(), time.Since(start)
	if err := r.fleet.Record(false, false); err != nil {
		return err
	}
	after, err := r.p.Sample()
	if err != nil {
		return err
	}
	r.result.Window = Window{
		Length: length, Events: ended.Events - counts.Events, Streams: ended.Finished - counts.Finished,
		CPU: cpuEnd - cpu, User: after.User - before.User, System: after.System - before.System,
		Voluntary:  after.Voluntary - min(before.Voluntary, after.Voluntary),
		Forced:     after.Forced - min(before.Forced, after.Forced),
		HarnessCPU: ownEnd - own,
	}
	return ctx.Err()
}

func (r *run) sampleFull() error {
	s, err := r.p.Sample()
	if err != nil {
		return err
	}
	m := &r.result.Memory
	m.Full, m.Peak, m.Streams = s.RSS, s.RSSPeak, r.fleet.Counts().Live()
	m.KernelFull = target.ReadKernel()
	r.result.FDs.Full = s.FDs
	return nil
}

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

func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("scenario: getrusage: %v", err)) // EFAULT and EINVAL only: ours
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
