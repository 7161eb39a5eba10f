package fdrecv

import (
	"bytes"
	"fmt"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// pending is a handoff that is not complete: on epoll and under a timeout. Most handoffs never get here.
type pending struct {
	ln     *Listener
	source loop.Source // attached from hold to end
	timer  loop.Timer
	in     incoming // in.own is set

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
	if err := p.source.Attach(ln.loop, conn, p); err != nil {
		_ = conn.Close()
		ln.deliver(&p.in, p.in.broken(err))
		return
	}
	p.timer.Firer = p
	ln.loop.Arm(&p.timer, p.in.acceptedAt+ln.cfg.Timeout)
	p.enlist()
	ln.pendingCount++
}

// enlist puts p at the end of the list that it belongs to. What is moved from silent to withClient late is older than
// its place says: it is evicted later than its turn, which costs nobody anything.
func (p *pending) enlist() {
	list := &p.ln.silent
	if p.in.arrived {
		list = &p.ln.withClient
	}
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
	if done, err := p.receive(); done {
		p.end(err)
		return
	}
	p.enlist()
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
	if done, outcome := p.receive(); done {
		err = outcome
	}
	p.end(err)
}

func (p *pending) receive() (done bool, err error) {
	return p.in.receive(p.source.FD(), p.ln.kind, p.ln.cfg.PayloadMax, p.ln.cfg.Buffer)
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
