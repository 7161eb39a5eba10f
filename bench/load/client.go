package load

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// role is how a client behaves.
type role uint8

const (
	reads    role = iota // takes every byte at once
	stalls               // never reads
	trickles             // reads trickleBytes each trickleEvery
	leaves               // reads, and closes at a random point
)

const (
	trickleBytes = 256
	trickleEvery = 250 * time.Millisecond
	// backlogPatience is how long a handoff is tried again after EAGAIN. A web server does not try at all: the client
	// gets a 503. Retries are counted, so that a daemon that accepts too slowly shows.
	backlogPatience = 10 * time.Second
	backlogRetry    = 2 * time.Millisecond
	// sendPatience is what the older module has as SO_SNDTIMEO. Only a payload above what the socket takes at once
	// needs any, and then the loop waits: no other client is read meanwhile.
	sendPatience = 500 * time.Millisecond
)

// state is where a client stands; only to changes it.
type state uint8

const (
	connecting state = iota // its server end has not been accepted yet
	ready                   // has its server end, not handed over
	handed                  // the daemon has it; no byte has come
	started                 // bytes have come
	over                    // closed, and counted in exactly one of the ends
)

var legal = [over + 1][over + 1]bool{ // from, to
	connecting: {ready: true, over: true},
	ready:      {handed: true, over: true},
	handed:     {started: true, over: true},
	started:    {over: true},
}

// client is one browser. It lives on its worker's loop.
type client struct {
	loop.Source // its end, while attached
	w           *worker
	timer       loop.Timer // ready: the next try; handed and later: what the role has to do
	check       check
	parked      loop.FD // its end, while not attached: a client that does not read
	server      loop.FD // the server end; held exactly while ready
	prompt      string  // with Expect.Prompt
	handedAt    time.Duration
	readAt      time.Duration // the last read that brought events; 0: none yet
	base        time.Duration // when the first event should have been read, see observe
	place       int32         // in worker.live
	role        role
	state       state
}

func (c *client) to(next state) {
	if !legal[c.state][next] {
		panic("load: illegal step of a client")
	}
	c.state = next
}

// handOver gives the server end to the daemon.
func (c *client) handOver() {
	w := c.w
	at := w.loop.Clock()
	if c.handedAt == 0 {
		c.handedAt = at
	}
	err := w.sender.Send(c.server.Int(), w.payload(c), sendPatience)
	if errors.Is(err, unix.EAGAIN) && at-c.handedAt < backlogPatience {
		w.counters.retries.Add(1)
		w.loop.Arm(&c.timer, at+backlogRetry)
		return
	}
	_ = c.server.Close()
	switch {
	case errors.Is(err, unix.EAGAIN):
		c.end(FaultBacklog, err)
		return
	case err != nil:
		c.end(FaultHandoff, err)
		return
	}
	c.to(handed)
	w.counters.handed.Add(1)
	if w.recordOpening {
		w.latencies.Handoff.Record(w.loop.Clock() - at)
	}
	switch c.role {
	case trickles:
		w.loop.Arm(&c.timer, at+trickleEvery)
	case leaves:
		w.loop.Arm(&c.timer, at+time.Duration(w.random.Int64N(int64(w.conf.LeaveWithin)+1)))
	}
}

// Fire is the timer of whatever the client waits for.
func (c *client) Fire() {
	switch {
	case c.state == ready:
		c.handOver()
	case c.role == leaves:
		c.leave()
	case c.role == trickles:
		c.trickle()
	}
}

// Readable takes what has come. One read is enough while the stream goes on: what is left is reported again. After
// [DONE] the end is due, and after a hangup there is no further call, so it reads until there is nothing.
func (c *client) Readable() {
	for {
		n, err := loop.Recv(c.Source.FD(), c.w.buffer)
		if !c.took(n, err) || !c.check.done && n < len(c.w.buffer) {
			return
		}
	}
}

// Hangup: the far end closed, and what it sent before may not have been read.
func (c *client) Hangup() {
	for {
		n, err := loop.Recv(c.Source.FD(), c.w.buffer)
		if errors.Is(err, unix.EAGAIN) { // gone without an end that can be read
			c.end(FaultReset, nil)
			return
		}
		if !c.took(n, err) {
			return
		}
	}
}

// Writable is never asked for.
func (c *client) Writable() {}

// Failed: a callback of ours panicked; the source is retired already.
func (c *client) Failed(err error) { c.end(FaultBug, err) }

// trickle reads a little.
func (c *client) trickle() {
	n, err := loop.Recv(c.parked.Int(), c.w.buffer[:trickleBytes])
	if c.took(n, err) || c.state != over {
		c.w.loop.Arm(&c.timer, c.w.loop.Now()+trickleEvery)
	}
}

// took handles the result of a read and reports whether another one may follow.
func (c *client) took(n int, err error) bool {
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case err != nil && c.role == trickles:
		c.finish(&c.w.counters.evicted) // slow on purpose: to be closed is what it must expect
		return false
	case errors.Is(err, unix.ECONNRESET):
		c.end(FaultReset, err)
		return false
	case err != nil:
		c.end(FaultLost, err)
		return false
	case n == 0:
		c.ended()
		return false
	}
	w, now := c.w, c.w.loop.Now()
	w.counters.bytes.Add(uint64(n))
	if c.state == handed {
		c.to(started)
		w.counters.started.Add(1)
		if w.recordOpening && c.role == reads {
			w.latencies.FirstByte.Record(now - c.handedAt)
		}
	}
	first := c.check.events
	events, f := w.rules.feed(&c.check, w.buffer[:n])
	w.counters.events.Add(uint64(events))
	if f != FaultNone {
		c.end(f, nil)
		return false
	}
	if events > 0 {
		c.observe(first, events, now)
	}
	return true
}

// observe takes the times of a read that brought events number first and up. An event's lateness is how long after
// its point of the schedule it was read; the schedule begins with the event that, its number taken off, came earliest,
// so a stream that drifts is late, and one whose first event was slow is not early for ever after.
func (c *client) observe(first, events int, now time.Duration) {
	w := c.w
	if delay := w.conf.Delay; delay > 0 {
		for i := first; i < first+events; i++ {
			start := now - time.Duration(i)*delay
			if i == 0 || start < c.base {
				c.base = start
			}
			if i > 0 && w.recordEvents && c.role == reads {
				w.latencies.Lateness.Record(start - c.base)
			}
		}
	}
	if c.readAt > 0 && w.recordEvents && c.role == reads {
		w.latencies.Gap.Record(now - c.readAt)
	}
	c.readAt = now
}

// ended: the daemon closed the stream.
func (c *client) ended() {
	w := c.w
	f := w.rules.end(&c.check, c.prompt)
	switch {
	case f == FaultNone:
		if w.recordEvents && c.role == reads {
			w.latencies.Duration.Record(w.loop.Now() - c.handedAt)
		}
		c.finish(&w.counters.finished)
	case c.role == trickles && (f == FaultTorn || f == FaultShort || f == FaultLost || f == FaultHead):
		c.finish(&w.counters.evicted)
	default:
		c.end(f, fmt.Errorf("load: closed %v after the handoff, with %d events read", w.loop.Now()-c.handedAt, c.check.events))
	}
}

// leave closes the client without a word, as a browser does. What it has read was right so far.
func (c *client) leave() { c.finish(&c.w.counters.left) }

// dismiss is leave for the end of a run: a client that nothing has come for by now was lost.
func (c *client) dismiss() {
	if c.state == handed && c.parked.Valid() { // it has not read yet, but something must be there to be read
		if n, err := loop.Recv(c.parked.Int(), c.w.buffer); err == nil && n > 0 {
			c.to(started)
			c.w.counters.started.Add(1)
			if _, f := c.w.rules.feed(&c.check, c.w.buffer[:n]); f != FaultNone {
				c.end(f, nil)
				return
			}
		}
	}
	if c.state != started {
		c.end(FaultTimeout, nil)
		return
	}
	c.leave()
}

func (c *client) end(f Fault, err error) {
	c.w.note(f, err)
	c.finish(&c.w.counters.faults[f])
}
