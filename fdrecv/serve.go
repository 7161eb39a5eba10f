package fdrecv

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// Config says how a Listener serves. Its functions are called on the loop and must not block; one that panics is
// logged and costs nothing else.
type Config struct {
	// Timeout is how long a handoff may take from its accept on. 0: HandoffTimeout.
	Timeout time.Duration
	// PayloadMax is the largest payload in bytes, at most 256 KiB - 1. 0: the constant PayloadMax.
	PayloadMax int
	// AcceptBudget is how many connections one turn accepts at most. 0: AcceptBudget.
	AcceptBudget int
	// PendingMax is how many handoffs may be incomplete at a time; for one more the oldest is given up, ErrTimeout.
	// Each holds up to PayloadMax bytes. 0: PendingMax.
	PendingMax int
	// AllowUIDs and AllowGIDs name who may hand over, by the effective user and group of the peer when it connected
	// (SO_PEERCRED, unix(7)): one of the lists has to have it. Both empty: whom the mode of the path lets in.
	AllowUIDs, AllowGIDs []uint32
	// Buffer is shared by the listeners of one loop. nil: one of this Listener's own.
	Buffer *Buffer

	// Handoff gets the outcome of every connection and owns its client socket, also if it panics: the descriptor may
	// be in use by then, so nobody closes it. Required.
	Handoff func(Handoff)
	// Accepted is called for each connection, before its Handoff. nil: not called.
	Accepted func()
	// Admit is asked before each accept; false means not now, and the backlog waits for BackOff. nil: always, which loses
	// nobody: a full descriptor table is waited for as well (P-18). A full house is no reason (P-19): such a client is
	// received and told.
	Admit func() bool
}

// The defaults of Config, and what is fixed.
const (
	// HandoffTimeout is ten times what a sender of the older module waits for its own send (500 ms).
	HandoffTimeout = 5 * time.Second
	// AcceptBudget keeps a burst of handoffs from holding up the streams of a loop: 64 take 0.5 ms, and what the
	// callback does (BenchmarkHandoff: 6.9 µs each on a 2-core virtual machine).
	AcceptBudget = 64
	// PendingMax bounds silent peers (P-23), and memory: 512 handoffs of 208 KiB are 104 MiB, in the hands of peers
	// that the mode of the path let in.
	PendingMax = 512
	// BackOff is the wait after an accept or a receive that found no room. At 2,000 handoffs a second 100 wait in the backlog
	// meanwhile, of the 4,096 that net.core.somaxconn allows by default; a poll costs one accept4 per wait.
	BackOff = 50 * time.Millisecond
	// logInterval bounds the log lines of a Listener that finds no room.
	logInterval = time.Second
)

// state is where a Listener is in its life; to is the only writer.
type state uint8

const (
	stateIdle     state = iota // listening in the kernel, not served: connections wait in the backlog
	stateServing               // on a loop; attached to epoll except while it backs off
	stateDraining              // shut down for reading and off epoll: what is left in the backlog is accepted
	stateClosing               // the listening socket is closed; incomplete handoffs complete or time out
	stateClosed                // nothing is left
	numStates
)

var legalSteps = [numStates][numStates]bool{ // from, to
	stateIdle:     {stateServing: true, stateClosed: true},
	stateServing:  {stateDraining: true, stateClosing: true},
	stateDraining: {stateClosing: true},
	stateClosing:  {stateClosed: true},
}

// to changes the state; it panics on an illegal step (our bug).
func (ln *Listener) to(next state) {
	if !legalSteps[ln.state][next] {
		panic(fmt.Sprintf("fdrecv: listener from state %d to %d", ln.state, next))
	}
	ln.state = next
}

// Serve starts to accept on l, from its next turn on: everything that arrived since Listen is in the backlog. Any
// goroutine, once. An error means that nothing was started: the Listener was served or closed before, cfg is wrong,
// or l is closed.
func (ln *Listener) Serve(l *loop.Loop, cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.loop != nil || ln.state != stateIdle { // in this order: with a loop, state is the loop's
		return errors.New("fdrecv: Serve of a listener that was served or closed before")
	}
	if err := l.Post(ln.start); err != nil {
		return fmt.Errorf("fdrecv: serve: %w", err)
	}
	ln.loop, ln.cfg = l, cfg
	return nil
}

// complete fills in the defaults.
func (c *Config) complete() error {
	if c.Handoff == nil {
		return errors.New("fdrecv: Config.Handoff is missing")
	}
	if c.PayloadMax < 0 || c.PayloadMax >= receiveRoom {
		return fmt.Errorf("fdrecv: Config.PayloadMax is %d bytes: it must be less than %d", c.PayloadMax, receiveRoom)
	}
	if c.Timeout < 0 || c.AcceptBudget < 0 || c.PendingMax < 0 {
		return errors.New("fdrecv: a negative number in Config")
	}
	if c.Timeout == 0 {
		c.Timeout = HandoffTimeout
	}
	if c.PayloadMax == 0 {
		c.PayloadMax = PayloadMax
	}
	if c.AcceptBudget == 0 {
		c.AcceptBudget = AcceptBudget
	}
	if c.PendingMax == 0 {
		c.PendingMax = PendingMax
	}
	if c.Buffer == nil {
		c.Buffer = new(Buffer)
	}
	return nil
}

// start is the first step on the loop.
func (ln *Listener) start() {
	ln.mu.Lock() // Serve may not have left yet
	defer ln.mu.Unlock()
	ln.timer.Firer = ln
	ln.to(stateServing)
	ln.attach()
}

// attach joins epoll, or tries again later.
func (ln *Listener) attach() {
	if err := ln.source.Attach(ln.loop, ln.fd, ln); err != nil {
		ln.backOff(err)
		return
	}
	ln.fd = loop.FD{}
}

// Readable implements loop.Handler: connections wait. What the budget leaves is reported again in the next turn.
func (ln *Listener) Readable() { ln.acceptTurn() }

// Writable implements loop.Handler; it is never asked for.
func (ln *Listener) Writable() {}

// Hangup implements loop.Handler. A listening socket has no far end: another process shut it down.
func (ln *Listener) Hangup() {
	slog.Error("fdrecv: the listening socket was shut down", "path", ln.name())
	ln.stopListening()
}

// Failed implements loop.Handler and loop.Firer: this package panicked, and the loop has taken the socket away.
func (ln *Listener) Failed(err error) {
	slog.Error("fdrecv: no more handoffs on this socket", "path", ln.name(), "error", err)
	ln.stopListening()
}

// stopListening is the end of a Listener that was lost: incomplete handoffs go on.
func (ln *Listener) stopListening() {
	if ln.state == stateServing || ln.state == stateDraining {
		ln.closeSocket()
		ln.to(stateClosing)
		ln.checkDrained()
	}
}

// acceptTurn accepts up to the budget. Counted with strace, a complete handoff costs
//
//	accept4, recvmsg, recvmsg, getsockopt, getpeername, close             seqpacket, fdpass
//	accept4, recvmsg, recvmsg, getsockopt, getpeername, recvmsg, close    stream (the last recvmsg finds the end)
//
// and a turn one more accept4, which finds nothing. The first recvmsg is a peek, see receiveFirst.
func (ln *Listener) acceptTurn() {
	if !ln.takeWaiting() {
		ln.backOff(errNoRoom)
		return
	}
	for range ln.cfg.AcceptBudget {
		if ln.state != stateServing && ln.state != stateDraining || ln.timer.Armed() {
			return // a callback closed the Listener, or a handoff found no room
		}
		if !ln.admit() {
			ln.backOff(errNotAdmitted)
			return
		}
		conn, errno := accept(ln.socket())
		switch errno {
		case 0:
			ln.accepted(loop.OwnFD(conn))
		case unix.EAGAIN:
			if ln.state == stateDraining {
				ln.stopListening()
			}
			return
		case unix.ECONNABORTED: // the peer gave up while it waited
		case unix.EINVAL: // no longer a listening socket, or one that is shut down and empty
			if ln.state == stateDraining {
				ln.stopListening()
				return
			}
			ln.backOff(errno)
			return
		default: // EMFILE, ENFILE, ENOBUFS, ENOMEM; with anything else, waiting cannot hurt either
			ln.backOff(errno)
			return
		}
	}
	if ln.state == stateDraining {
		ln.post(ln.drainTurn) // off epoll, nobody else calls
	}
}

// accepted receives what is there already; nearly always that is all.
func (ln *Listener) accepted(conn loop.FD) {
	ln.count()
	in := incoming{acceptedAt: ln.loop.Now()}
	if err := ln.checkPeer(conn.Int()); err != nil {
		_ = conn.Close()
		ln.deliver(&in, err)
		return
	}
	done, err := in.receive(conn.Int(), ln.kind, ln.cfg.PayloadMax, ln.cfg.Buffer)
	switch {
	case err == errNoRoom:
		ln.holdForRoom(conn, &in)
		ln.backOff(errNoRoom)
		return
	case !done:
		ln.hold(conn, &in)
		return
	}
	// Here and not in the sweep: epoll never knew this number, so no readiness of this batch can name it (P-20).
	_ = conn.Close()
	ln.deliver(&in, err)
}

func (ln *Listener) admit() (ok bool) {
	if ln.cfg.Admit == nil {
		return true
	}
	defer recovered()
	return ln.cfg.Admit()
}

func (ln *Listener) count() {
	if ln.cfg.Accepted != nil {
		defer recovered()
		ln.cfg.Accepted()
	}
}

// deliver reports the outcome; the client socket leaves our hands.
func (ln *Listener) deliver(in *incoming, err error) {
	h := in.outcome(ln.kind, err)
	defer recovered()
	ln.cfg.Handoff(h)
}

// recovered is deferred around each callback, so that a panic in one costs neither the listener nor the handoffs
// behind it.
func recovered() {
	if v := recover(); v != nil {
		slog.Error("panic in a callback", "panic", v, "stack", string(debug.Stack()))
	}
}

// socket lends the listening socket.
func (ln *Listener) socket() int {
	if ln.source.Attached() {
		return ln.source.FD()
	}
	return ln.fd.Int()
}
