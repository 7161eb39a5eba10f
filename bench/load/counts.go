package load

import "sync/atomic"

// Counts is what has become of a fleet's clients so far.
type Counts struct {
	Opened   uint64 // clients begun
	Handed   uint64 // handed over: the daemon has them
	Started  uint64 // a first byte came
	Finished uint64 // whole streams, checked to the end
	Left     uint64 // clients that left by themselves, nothing wrong up to then
	Evicted  uint64 // slow clients that the daemon closed, nothing wrong up to then
	Events   uint64 // events read, [DONE] not counted
	Bytes    uint64 // bytes read
	Retries  uint64 // handoffs sent again because the backlog was full
	Faults   [faults]uint64
}

// Live is how many clients are open.
func (c Counts) Live() uint64 {
	return c.Opened - c.Finished - c.Left - c.Evicted - c.FaultsAll()
}

// FaultsAll is how many clients met a fault.
func (c Counts) FaultsAll() (n uint64) {
	for _, f := range c.Faults {
		n += f
	}
	return n
}

// counters are the Counts of one worker: written on its loop, read by any goroutine.
type counters struct {
	opened, handed, started, finished, left, evicted, events, bytes, retries atomic.Uint64

	faults [faults]atomic.Uint64
}

// addTo adds the counters to c. The ends are read before the starts, so that Live is never below zero.
func (k *counters) addTo(c *Counts) {
	for i := range k.faults {
		c.Faults[i] += k.faults[i].Load()
	}
	c.Finished += k.finished.Load()
	c.Left += k.left.Load()
	c.Evicted += k.evicted.Load()
	c.Events += k.events.Load()
	c.Bytes += k.bytes.Load()
	c.Retries += k.retries.Load()
	c.Started += k.started.Load()
	c.Handed += k.handed.Load()
	c.Opened += k.opened.Load()
}
