package fdrecv

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// pending is a handoff that is not complete: on epoll and under a timeout, or waiting for room. Most handoffs never get
// here.
type pending struct {
	ln     *Listener
	source loop.Source // attached unless it waits for room
	conn   loop.FD     // held while it waits for room
	timer  loop.Timer  // armed unless it waits for room
	in     incoming    // in.own is set

	next, prev *pending
	list       *pendingList // the one that it is in
}

// pendingList holds pending handoffs, the oldest first.
type pendingList struct{ first, last *pending }

// hold keeps a handoff that is not complete. It owns conn and what is in in.
func (ln *Listener) hold(conn loop.FD, in *incoming) {
	p := &pending{ln: ln, in: *in}
	p.in.data, p.in.own = bytes.Clone(in.data), true
	*in = incoming{}
	if ln.pendingCount >= ln.cfg.PendingMax {
		ln.evictOldest()
	}
	ln.pendingCount++
	p.conn, p.timer.Firer = conn, p
	p.watch(p.in.acceptedAt + ln.cfg.Timeout)
}

// holdForRoom keeps a handoff that has come and finds no room for its client. It owns conn.
func (ln *Listener) holdForRoom(conn loop.FD, in *incoming) {
	p := &pending{ln: ln, in: *in, conn: conn}
	p.in.own, p.timer.Firer = true, p
	ln.pendingCount++
	p.enlist(&ln.waiting)
}

// watch joins epoll for what has not come yet.
func (p *pending) watch(deadline time.Duration) {
	p.enlist(p.home())
	if err := p.source.Attach(p.ln.loop, p.conn, p); err != nil {
		p.end(p.in.broken(err))
		return
	}
	p.conn = loop.FD{}
	p.ln.loop.Arm(&p.timer, deadline)
}

// awaitRoom leaves epoll, where the message that cannot be taken would be reported for ever, until the Listener's next
// try. There is no deadline: the client is this process's debt, as much as those in the backlog are (P-01).
func (p *pending) awaitRoom() {
	p.conn = p.source.Detach()
	p.ln.loop.Stop(&p.timer)
	p.enlist(&p.ln.waiting)
	p.ln.backOff(errNoRoom)
}

// takeWaiting takes the handoffs that wait for room, the oldest first, and reports whether none is left.
func (ln *Listener) takeWaiting() bool {
	for p := ln.waiting.first; p != nil; p = ln.waiting.first {
		switch done, err := p.receive(); {
		case done:
			p.end(err)
		case err != nil:
			return false
		default:
			p.watch(ln.loop.Now() + ln.cfg.Timeout)
		}
	}
	return true
}

// home is the list of those that are on epoll.
func (p *pending) home() *pendingList {
	if p.in.arrived {
		return &p.ln.withClient
	}
	return &p.ln.silent
}

// enlist puts p at the end of a list. What is moved from silent to withClient late is older than its place says: it is
// evicted later than its turn, which costs nobody anything.
func (p *pending) enlist(list *pendingList) {
	if p.list == list {
		return
	}
	p.delist()
	p.list, p.prev = list, list.last
	if list.last == nil {
		list.first = p
	} else {
		list.last.next = p
	}
	list.last = p
}

func (p *pending) delist() {
	if p.list == nil {
		return
	}
	if p.prev == nil {
		p.list.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		p.list.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.next, p.prev, p.list = nil, nil, nil
}

// Readable implements loop.Handler.
func (p *pending) Readable() {
	switch done, err := p.receive(); {
	case done:
		p.end(err)
	case err != nil:
		p.awaitRoom()
	default:
		p.enlist(p.home())
	}
}

// Writable implements loop.Handler; it is never asked for.
func (p *pending) Writable() {}

// Hangup implements loop.Handler.
func (p *pending) Hangup() { p.endNow(p.in.broken(unix.EPIPE)) }

// Fire implements loop.Firer: the timeout.
func (p *pending) Fire() {
	p.endNow(fmt.Errorf("fdrecv: after %v: %w", p.ln.cfg.Timeout, ErrTimeout))
}

// Failed implements loop.Handler and loop.Firer. What panicked is this package: the client hears of it all the same.
func (p *pending) Failed(err error) { p.end(p.in.broken(err)) }

// endNow ends the handoff with err unless its rest has come meanwhile: after a stall of the loop that may lie in the
// kernel unseen, and a sender that has sent it all believes that the handoff succeeded (P-01).
func (p *pending) endNow(err error) {
	switch done, outcome := p.receive(); {
	case done:
		p.end(outcome)
	case outcome != nil:
		p.awaitRoom()
	default:
		p.end(err)
	}
}

func (p *pending) receive() (done bool, err error) {
	fd := p.conn.Int()
	if p.source.Attached() {
		fd = p.source.FD()
	}
	return p.in.receive(fd, p.ln.kind, p.ln.cfg.PayloadMax, p.ln.cfg.Buffer)
}

// end closes the handoff socket (in the sweep of this turn, P-20) and reports the outcome.
func (p *pending) end(err error) {
	if p.list == nil {
		return // a second panic while it was ending
	}
	p.delist()
	p.ln.pendingCount--
	p.ln.loop.Stop(&p.timer)
	p.source.Retire()
	_ = p.conn.Close() // off epoll since a turn before this one
	p.ln.deliver(&p.in, err)
	p.ln.checkDrained()
}

// evictOldest makes room for a new one. The oldest without a descriptor goes first: nobody waits behind it. Refusing
// to accept instead would let a few hundred silent peers stop every handoff for the length of the timeout (P-02).
func (ln *Listener) evictOldest() {
	oldest := ln.silent.first
	if oldest == nil {
		oldest = ln.withClient.first
	}
	oldest.endNow(fmt.Errorf("fdrecv: more than %d incomplete: %w", ln.cfg.PendingMax, ErrTimeout))
}
