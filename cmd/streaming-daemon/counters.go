package main

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/metrics"
	"streaming-daemon-go/sse/stream"
)

// counters are the numbers that no package below keeps: outcomes, by reason.
type counters struct {
	connections   atomic.Uint64
	handoffs      atomic.Uint64
	handoffErrors [metrics.NumReasons]atomic.Uint64
	streamErrors  [metrics.NumReasons]atomic.Uint64

	accessLogDropped atomic.Uint64 // lines
}

// handoffReason is the reason label of a handoff that failed.
func handoffReason(err error) metrics.Reason {
	switch {
	case errors.Is(err, fdrecv.ErrTimeout):
		return metrics.ReasonTimeout
	case errors.Is(err, fdrecv.ErrClosed):
		return metrics.ReasonCanceled
	case errors.Is(err, fdrecv.ErrClientGone), errors.Is(err, fdrecv.ErrNoHandoff):
		return metrics.ReasonClientDisconnected
	case errors.Is(err, fdrecv.ErrBroken):
		return metrics.ReasonNetwork
	default:
		return metrics.ReasonOther
	}
}

// streamReason is the reason label of a stream that did not end by itself.
func streamReason(err error) metrics.Reason {
	var errno unix.Errno
	switch {
	case errors.Is(err, conn.ErrHangup):
		return metrics.ReasonClientDisconnected
	case errors.Is(err, conn.ErrWriteTimeout), errors.Is(err, stream.ErrDeadline):
		return metrics.ReasonTimeout
	case errors.Is(err, stream.ErrCut), errors.Is(err, conn.ErrEvicted):
		return metrics.ReasonCanceled
	case errors.Is(err, conn.ErrPanic), errors.Is(err, stream.ErrPanic):
		return metrics.ReasonOther
	case errors.As(err, &errno):
		return metrics.ReasonNetwork
	default:
		return metrics.ReasonOther
	}
}

// snapshot sums what is counted anywhere, for one scrape. Any goroutine.
func (d *daemon) snapshot() metrics.Snapshot {
	c := d.server.Counts()
	s := metrics.Snapshot{
		ActiveConnections: c.Connections,
		ActiveStreams:     c.Streams,
		PeakStreams:       c.Peak,
		PausedStreams:     c.Paused,
		PendingBytes:      c.Pending,
		Connections:       d.counters.connections.Load(),
		Rejected:          c.Rejected,
		Handoffs:          d.counters.handoffs.Load(),
		BytesSent:         c.Bytes,
		EventsSent:        c.Events,
		Evicted:           c.Evicted,
		LoopStreams:       c.PerLoop,
		LoopLag:           lagBuckets(d.pool.Loops()),
		Backends:          d.backends.snapshot(),
		AccessLogDropped:  d.counters.accessLogDropped.Load(),
		Draining:          d.draining.Load(),
		MaxConnections:    d.maxConnections.Load(),
	}
	for i := range metrics.NumReasons {
		s.HandoffErrors[i] = d.counters.handoffErrors[i].Load()
		s.StreamErrors[i] = d.counters.streamErrors[i].Load()
	}
	return s
}

func lagBuckets(loops []*loop.Loop) metrics.Buckets {
	var sum loop.LagCounts
	for _, l := range loops {
		sum.Add(l.Lag())
	}
	b := metrics.Buckets{Counts: sum.Counts[:], SumSeconds: sum.Sum.Seconds()}
	for _, upper := range loop.LagUpper() {
		b.UpperSeconds = append(b.UpperSeconds, upper.Seconds())
	}
	return b
}
