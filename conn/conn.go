package conn

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// Why a Conn ended, as told to Owner.Ended; other causes are errors of the socket, wrapped.
var (
	ErrHangup       = errors.New("conn: client hung up")
	ErrWriteTimeout = errors.New("conn: client took no bytes for the write timeout")
	ErrEvicted      = errors.New("conn: evicted, too many bytes wait for all clients")
	ErrInput        = errors.New("conn: client sent too much")
	ErrPanic        = errors.New("conn: panic in a callback")
)

// Owner is told what becomes of its Conn. Every method runs on the Conn's loop and must not block. Paused may be called
// from inside Flush; Ended and Released from inside Flush, Finish and Abort.
type Owner interface {
	// Paused: pending has reached the high watermark. Send less; Resumed follows, or Ended.
	Paused()
	// Resumed: pending is back at the low watermark.
	Resumed()
	// Ended, once: nil when the kernel has taken every byte up to Finish, else why not. Nothing more can be sent.
	Ended(cause error)
	// Released, once and last, after Ended (also when that panicked): the descriptor is closed when this turn ends.
	Released()
}

// Conn is one client socket, to be embedded in its owner. The zero Conn waits for Open. Loop goroutine only.
type Conn struct {
	source  loop.Source
	shard   *Shard // immutable after Open
	owner   Owner  // immutable after Open
	out     *outbox
	sent    uint64 // bytes that the kernel took
	dropped uint32 // bytes that the client sent after the handoff
	state   state
}

// Open takes fd, a connected stream socket, and starts to watch it. tcp says that it is a TCP socket (a Unix stream
// socket has no TCP options). On an error the caller keeps fd and no Owner method is called. A Conn is opened once.
func (c *Conn) Open(sh *Shard, fd loop.FD, tcp bool, owner Owner) error {
	if c.state != stateNew {
		panic(fmt.Sprintf("conn: Open of a conn that is %v", c.state))
	}
	if tcp {
		if err := sh.cfg.Kernel.Setup(fd.Int(), sh.cfg.WriteTimeout); err != nil {
			return err
		}
	}
	c.shard, c.owner = sh, owner
	if err := sh.cfg.Kernel.Attach(&c.source, sh.loop, fd, (*handler)(c)); err != nil {
		c.shard, c.owner = nil, nil
		return err
	}
	c.to(stateOpen)
	sh.counts.open.Add(1)
	return nil
}

// Sent is how many bytes the kernel has taken.
func (c *Conn) Sent() uint64 { return c.sent }

// Pending is how many bytes wait for the client.
func (c *Conn) Pending() int {
	if c.out == nil {
		return 0
	}
	return c.out.pending
}

// StateName is the state in a word, for people.
func (c *Conn) StateName() string { return c.state.String() }

// Writable reports whether Queue is allowed: after Open and before Finish or Ended.
func (c *Conn) Writable() bool { return c.state == stateOpen || c.state == statePaused }

// IsPaused reports whether the owner should send less.
func (c *Conn) IsPaused() bool { return c.state == statePaused }

// Queue adds b to what waits, without a syscall: Flush follows in the same callback. b may wait in many outboxes at
// once: nobody may write to it again.
func (c *Conn) Queue(b []byte) {
	c.mustBeWritable("Queue")
	c.borrow()
	c.out.add(b)
}

// QueueCopy is Queue for bytes that the caller uses again: they are copied.
func (c *Conn) QueueCopy(b []byte) {
	c.mustBeWritable("QueueCopy")
	c.borrow()
	c.out.addCopy(b)
}

// Discard forgets all that waits. Only while nothing of it was offered to the kernel.
func (c *Conn) Discard() {
	if c.sent > 0 || c.waiting() {
		panic("conn: Discard of bytes that are under way")
	}
	c.giveBack()
}

func (c *Conn) mustBeWritable(what string) {
	if !c.Writable() {
		panic(fmt.Sprintf("conn: %s on a conn that is %v", what, c.state))
	}
}

// Flush offers what waits to the kernel, unless that is for Writable to do: when the kernel takes nothing now, or this
// Conn has had its share of the turn. A Conn that is over is left alone.
func (c *Conn) Flush() {
	if c.out == nil || !c.Writable() {
		return
	}
	if !c.waiting() && !c.write() {
		return
	}
	c.settle()
	if c.state == stateOpen && (c.Pending() >= c.shard.cfg.High || c.turnSpent()) {
		c.pause()
	}
}

// Finish ends the stream: what waits is flushed, the write side shut, the client given a bounded time to read it.
func (c *Conn) Finish() {
	c.mustBeWritable("Finish")
	if c.out != nil && !c.waiting() && !c.write() {
		return
	}
	if c.Pending() > 0 {
		c.to(stateFlushing)
		c.settle()
		return
	}
	c.linger()
}

// Abort ends it at once: Ended(cause) and Released follow before it returns, unless they were called before. reset
// makes the kernel forget what it holds for the client (the client sees a reset, not an orderly end, once the sender of
// the handoff has closed its copy of the socket too). A Conn that is new or over is left alone.
func (c *Conn) Abort(cause error, reset bool) {
	if c.state == stateNew || c.state == stateClosed {
		return
	}
	switch {
	case reset:
		c.shard.cfg.Kernel.Reset(c.source.FD())
	case c.state != stateLingering: // the close says nothing to the client while the sender holds its copy (P-13)
		_ = c.shard.cfg.Kernel.ShutdownWrite(c.source.FD()) // ENOTCONN: the client knows already
	}
	c.fail(cause)
}

// write sends what waits until it is gone or the kernel takes no more. It reports whether the Conn lives on.
func (c *Conn) write() bool {
	for range flushSends {
		if c.out.pending == 0 {
			return true
		}
		n, err := c.out.send(c.source.FD(), c.shard.cfg.Kernel)
		switch {
		case err == nil:
			c.advance(n)
		case errors.Is(err, unix.EAGAIN):
			return true
		default:
			c.fail(causeOf("send", err))
			return false
		}
	}
	return true
}

// causeOf says why a socket call failed for good. Which call hears of a broken connection first is chance: an error
// that the kernel holds for a socket is told once.
func causeOf(call string, err error) error {
	switch {
	case errors.Is(err, unix.EPIPE), errors.Is(err, unix.ECONNRESET):
		return ErrHangup
	case errors.Is(err, unix.ETIMEDOUT): // TCP_USER_TIMEOUT: sent bytes were not acknowledged
		return ErrWriteTimeout
	default:
		return fmt.Errorf("conn: %s: %w", call, err)
	}
}

// advance takes n sent bytes off what waits.
func (c *Conn) advance(n int) {
	c.out.advance(n)
	c.sent += uint64(n)
	sh := c.shard
	sh.counts.bytes.Add(uint64(n))
	if sh.turnConn != c || sh.turnAt != sh.loop.Now() {
		sh.turnConn, sh.turnAt, sh.turnBytes, sh.turnSends = c, sh.loop.Now(), 0, 0
	}
	sh.turnBytes += n
	sh.turnSends++
	if c.out.blocked {
		sh.blocked.remove(c.out)
		c.out.since = sh.loop.Now()
		sh.blocked.push(c.out)
	}
}

// turnSpent reports whether this Conn has had its share of the turn: the rest of it belongs to others.
func (c *Conn) turnSpent() bool {
	sh := c.shard
	return sh.turnConn == c && sh.turnAt == sh.loop.Now() && (sh.turnBytes >= turnBytes || sh.turnSends >= turnSends)
}

// settle brings the outbox, the write interest, the deadline and the budget in line with what waits.
func (c *Conn) settle() {
	if c.Pending() == 0 && c.state != statePaused {
		c.giveBack()
		c.want(false)
		return
	}
	c.block()
	c.out.account(c.shard)
}

// block makes c wait for Writable, for the write timeout at most.
func (c *Conn) block() {
	c.borrow()
	if c.out.blocked {
		return
	}
	c.out.blocked = true
	c.out.since = c.shard.loop.Now()
	c.shard.blocked.push(c.out)
	c.want(true)
}

// want asks for or leaves write readiness. A client that hung up gives ENOENT: its hangup is on its way.
func (c *Conn) want(write bool) {
	if err := c.source.Want(write); err != nil && !errors.Is(err, unix.ENOENT) {
		panic(err)
	}
}

// waiting reports whether c waits for Writable: bytes do, or its paused owner.
func (c *Conn) waiting() bool { return c.out != nil && c.out.blocked }

func (c *Conn) pause() {
	c.to(statePaused)
	c.block() // with nothing pending it was the turn that ran out: writable in the next one, if the client still reads
	c.owner.Paused()
}

// linger shuts the write side and waits for the client to close. A close over unread bytes would send a reset, and
// the client would lose the tail of what it has not read yet, even after the last event (P-12).
func (c *Conn) linger() {
	if err := c.shard.cfg.Kernel.ShutdownWrite(c.source.FD()); err != nil {
		c.fail(ErrHangup) // ENOTCONN: reset by the client meanwhile
		return
	}
	c.giveBack()
	c.want(false)
	c.to(stateLingering)
	c.dropped = 0
	c.owner.Ended(nil)
}

// fail ends the Conn now.
func (c *Conn) fail(cause error) {
	over := c.state == stateLingering
	c.to(stateClosed)
	c.shard.cfg.Kernel.Retire(&c.source)
	c.shard.counts.open.Add(-1)
	defer c.owner.Released() // also when Ended panics: what the owner counts per descriptor must not stay counted
	if !over {
		c.owner.Ended(cause)
	}
}

// Full reports whether enough waits for one send call: a caller that queues on should Flush first.
func (c *Conn) Full() bool {
	return c.out != nil && (len(c.out.pieces)-c.out.first >= loop.SendvMax || c.out.pending >= c.shard.cfg.High)
}

// OwnerOf gives the owner of the Conn behind a handler of Loop.Each; ok is false when it is not a Conn's.
func OwnerOf(h loop.Handler) (owner Owner, ok bool) {
	c, ok := h.(*handler)
	if !ok {
		return nil, false
	}
	return c.owner, true
}
