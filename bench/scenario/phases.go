package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/load"
)

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
