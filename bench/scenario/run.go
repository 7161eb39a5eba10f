package scenario

import (
	"context"
	"fmt"
	"sync"
	"time"

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

// wait is Fleet.Wait with a bound.
func (r *run) wait(ctx context.Context, patience time.Duration, done func(load.Counts) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return r.fleet.Wait(ctx, func(c load.Counts) bool { return done(c) || !r.p.Running() })
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
