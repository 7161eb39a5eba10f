package scenario

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/target"
)

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
	own, counts, start := ownCPU(), r.fleet.Counts(), time.Now()
	cpu, err := r.p.CPU() // not that of before: Sample takes its time
	if err != nil {
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

func ownCPU() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(fmt.Sprintf("scenario: getrusage: %v", err)) // EFAULT and EINVAL only: ours
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
