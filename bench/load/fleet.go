package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
)

// Config is what a fleet plays.
type Config struct {
	SocketPath   string // of the handoff socket
	SocketType   SocketType
	Client       ClientType
	PayloadBytes int           // about; 0: the least that fits
	Expect       Expect        // of every stream
	Delay        time.Duration // between two events; 0: lateness is not measured
	Workers      int           // loops; 0: 1
	Streams      int           // open at the same time at most: decides how many source addresses are used
	Seed         uint64        // of everything that is random

	SlowShare   float64       // 0 to 1: half of these never read, half read a little now and then
	LeaveShare  float64       // 0 to 1: these close at a random point
	LeaveWithin time.Duration // after the handoff
}

// role spreads the shares evenly over the clients, so that each has its part of every phase of a run. The slow ones
// are taken first, those that leave from the rest.
func (c *Config) role(n uint64) role {
	slow, before := uint64(float64(n+1)*c.SlowShare), uint64(float64(n)*c.SlowShare)
	if slow > before {
		if slow%2 == 0 {
			return stalls
		}
		return trickles
	}
	rest, share := float64(n-before), c.LeaveShare/max(1-c.SlowShare, 1e-9)
	if uint64((rest+1)*share) > uint64(rest*share) {
		return leaves
	}
	return reads
}

// Fleet is a set of clients. Its methods may be called from any goroutine but a loop's; they do not wait for the
// network.
type Fleet struct {
	pool    *loop.Pool
	workers []*worker
}

// NewFleet starts the loops and opens nothing yet. Close ends it.
func NewFleet(conf Config) (*Fleet, error) {
	conf.Workers = max(conf.Workers, 1)
	pool, err := loop.NewPool(conf.Workers)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	f := &Fleet{pool: pool}
	addresses := max(conf.Streams/streamsPerAddress+1, 4)
	for i, l := range pool.Loops() {
		sender, err := fdrecv.NewSender(conf.SocketPath, conf.SocketType.kind())
		if err != nil {
			pool.Close()
			return nil, fmt.Errorf("load: %w", err)
		}
		w := &worker{
			conf: conf, index: i, loop: l, sender: sender,
			waiting:   map[endpoint]*client{},
			rules:     newRules(conf.Expect),
			buffer:    make([]byte, readBuffer),
			random:    rand.New(rand.NewPCG(conf.Seed, uint64(i))),
			latencies: NewLatencies(),
		}
		if conf.PayloadBytes > 0 {
			w.nothing = padPayload(`{"prompt":"load test"`, conf.PayloadBytes)
		} else {
			w.nothing = []byte(`{"prompt":"load test"}`)
		}
		for n := range addresses {
			w.sources = append(w.sources, &unix.SockaddrInet4{Addr: [4]byte{127, 0, byte(n + 1), 1}})
		}
		f.workers = append(f.workers, w)
	}
	err = f.each(func(w *worker) error { return w.start() })
	if err != nil {
		f.pool.Close()
		return nil, err
	}
	return f, nil
}

// each runs do on every worker's loop and waits.
func (f *Fleet) each(do func(w *worker) error) error {
	results := make(chan error, len(f.workers))
	var errs error
	for _, w := range f.workers {
		err := w.loop.Post(func() {
			err := errors.New("load: a worker panicked")
			defer func() { results <- err }()
			err = do(w)
		})
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
	for range f.workers {
		errs = errors.Join(errs, <-results)
	}
	return errs
}

// share splits n over the workers.
func (f *Fleet) share(n uint64, worker int) uint64 {
	each, rest := n/uint64(len(f.workers)), n%uint64(len(f.workers))
	if uint64(worker) < rest {
		return each + 1
	}
	return each
}

// Open has n clients opened in all (those of earlier calls count) at a rate per second (0: as fast as they go), at most
// concurrency of them at the same time (0: no bound). A later call replaces the plan of an earlier one: Open(0, …)
// opens no more.
func (f *Fleet) Open(n, concurrency int, rate float64) error {
	return f.each(func(w *worker) error {
		w.open(plan{
			total:       f.share(uint64(n), w.index),
			concurrency: f.share(uint64(concurrency), w.index),
			rate:        rate / float64(len(f.workers)),
		})
		return nil
	})
}

// HoldBack has clients opened but not handed over until Release.
func (f *Fleet) HoldBack() error {
	return f.each(func(w *worker) error { w.holdBack = true; return nil })
}

// Release hands over what was held back, as fast as it goes. It does not wait.
func (f *Fleet) Release() error {
	return f.each(func(w *worker) error { w.release(); return nil })
}

// Record turns the measuring of latencies on or off: opening for Handoff and FirstByte, events for the others. Both are
// off at the start.
func (f *Fleet) Record(opening, events bool) error {
	return f.each(func(w *worker) error { w.recordOpening, w.recordEvents = opening, events; return nil })
}

// LeaveAll closes every client that is open, all in one turn. One that nothing has come for is FaultTimeout.
func (f *Fleet) LeaveAll() error {
	return f.each(func(w *worker) error {
		w.eachLive(func(c *client) { c.dismiss() })
		return nil
	})
}

// LeaveSlow is LeaveAll for the clients that read slowly or not at all.
func (f *Fleet) LeaveSlow() error {
	return f.each(func(w *worker) error {
		w.eachLive(func(c *client) {
			if c.role == stalls || c.role == trickles {
				c.dismiss()
			}
		})
		return nil
	})
}

// Abandon ends every client that is open as FaultTimeout.
func (f *Fleet) Abandon() error {
	return f.each(func(w *worker) error {
		w.eachLive(func(c *client) { c.end(FaultTimeout, nil) })
		return nil
	})
}

// Counts is what has become of the clients so far. It does not wait for the loops.
func (f *Fleet) Counts() Counts {
	var c Counts
	for _, w := range f.workers {
		w.counters.addTo(&c)
	}
	return c
}

// waitEvery is how often Wait looks.
const waitEvery = 5 * time.Millisecond

// Wait returns nil once done says so of the counts, or the error of ctx, or that of a bug in the harness.
func (f *Fleet) Wait(ctx context.Context, done func(Counts) bool) error {
	ticker := time.NewTicker(waitEvery)
	defer ticker.Stop()
	for !done(f.Counts()) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		for _, w := range f.workers {
			if err := w.panicked.Load(); err != nil {
				return fmt.Errorf("load: %w", *err)
			}
		}
	}
	return nil
}

// Latencies merges what the workers measured so far.
func (f *Fleet) Latencies() (Latencies, error) {
	all := NewLatencies()
	parts := make(chan Latencies, len(f.workers))
	err := f.each(func(w *worker) error {
		part := NewLatencies()
		part.Add(w.latencies)
		parts <- part
		return nil
	})
	if err != nil {
		return all, err
	}
	for range f.workers {
		all.Add(<-parts)
	}
	return all, nil
}

// Close closes every client that is still open, and the loops.
func (f *Fleet) Close() {
	_ = f.each(func(w *worker) error {
		w.eachLive(func(c *client) { c.leave() })
		return nil
	})
	f.pool.Close()
}
