package metrics

import "slices"

// Carried is what one process hands on to the one that takes its place, so
// that a counter goes on where it was: the page of a successor shows the sum.
// It is plain data and survives JSON.
type Carried struct {
	Snapshot
	Handoff, Stream, FirstByte Buckets
	Backend, BackendFirstByte  Buckets
}

// SetCarried says what predecessors have counted up to now, and replaces what
// was said before. It is added to this process's own numbers at each scrape.
// Any goroutine. The slices in c must not be written to any more.
func (m *Metrics) SetCarried(c Carried) { m.carried.Store(&c) }

// Carry gives this process's own numbers with those that it carries: what a
// scrape shows, and what a successor is told. It calls the read function. Any
// goroutine.
func (m *Metrics) Carry() Carried {
	c := Carried{Snapshot: m.read(), Handoff: m.handoff.read(), Stream: m.stream.read(), FirstByte: m.firstByte.read(),
		Backend: m.backend.read(), BackendFirstByte: m.backendFirstByte.read()}
	if before := m.carried.Load(); before != nil {
		c.add(before)
	}
	return c
}

// Ended is what is left of c when the process that counted it is gone: the
// counters. What it held at the end it holds no more.
func (c Carried) Ended() Carried {
	c.ActiveConnections, c.ActiveStreams, c.PausedStreams, c.PendingBytes = 0, 0, 0, 0
	c.Backends = endedBackends(c.Backends)
	return c
}

// add adds what a predecessor counted. Its gauges count too while it drains:
// its clients are as real as ours. PeakStreams is the highest that either saw;
// LoopStreams, Draining and MaxConnections are this process's own.
func (c *Carried) add(before *Carried) {
	c.ActiveConnections += before.ActiveConnections
	c.ActiveStreams += before.ActiveStreams
	c.PeakStreams = max(c.PeakStreams, before.PeakStreams, c.ActiveStreams)
	c.PausedStreams += before.PausedStreams
	c.PendingBytes += before.PendingBytes
	c.Connections += before.Connections
	c.Rejected += before.Rejected
	c.Handoffs += before.Handoffs
	c.BytesSent += before.BytesSent
	c.EventsSent += before.EventsSent
	c.Evicted += before.Evicted
	c.AccessLogDropped += before.AccessLogDropped
	for i := range NumReasons {
		c.HandoffErrors[i] += before.HandoffErrors[i]
		c.StreamErrors[i] += before.StreamErrors[i]
	}
	c.LoopLag.add(before.LoopLag)
	c.Handoff.add(before.Handoff)
	c.Stream.add(before.Stream)
	c.FirstByte.add(before.FirstByte)
	c.addBackends(before.Backends)
	c.Backend.add(before.Backend)
	c.BackendFirstByte.add(before.BackendFirstByte)
}

// add adds the counts of a histogram with the same bounds. Other bounds, of
// another version, cannot be added truly: then b stays, and starts from 0 as
// after a restart.
func (b *Buckets) add(before Buckets) {
	if !slices.Equal(b.UpperSeconds, before.UpperSeconds) || len(b.Counts) != len(before.Counts) {
		return
	}
	b.Counts = slices.Clone(b.Counts)
	for i, n := range before.Counts {
		b.Counts[i] += n
	}
	b.SumSeconds += before.SumSeconds
}
