package loop

import (
	"errors"
	"fmt"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// Handler is told of the readiness of one descriptor. Every method runs on the descriptor's loop and must not block.
// Readable is always asked for; Writable only between Want(true) and Want(false). A callback that was already
// fetched from the kernel is not made once the source has been detached or retired.
type Handler interface {
	// Readable: data, the end of the stream or an error waits to be read. A hangup comes as this too, and after a
	// hangup it is the last call: who needs the last bytes reads until EAGAIN or the end now.
	Readable()
	// Writable: the kernel takes bytes again.
	Writable()
	// Hangup: the far end is gone (or the socket failed) and Readable did not find it out. The source has left
	// epoll; the handler still owns it and retires it.
	Hangup()
	// Failed: a callback of this handler panicked. The source is already retired, by us or by the callback itself.
	Failed(err error)
}

// Source is one descriptor registered with a loop, to be embedded in what it is for. The zero Source is detached. It
// must not be copied while it is attached. Loop goroutine only.
type Source struct {
	loop    *Loop               // of the last attachment
	op      *netpoll.FDOperator // set exactly while attached
	handler Handler             // set exactly while attached
	fd      FD                  // held exactly while attached
	place   place               // valid while attached
}

// place is an index in loop.sources, doubled, plus 1 when EPOLLOUT is asked for: a field of its own for that would cost
// each stream eight bytes.
type place uint32

func placeAt(index int) place    { return place(index) << 1 }
func (p place) index() int       { return int(p >> 1) }
func (p place) wantsWrite() bool { return p&1 != 0 }

// errPanic marks what Failed is told.
var errPanic = errors.New("panic in a callback")

// Attach registers fd, read interest on, and takes it: from here on Retire or Detach ends it. On an error (out of
// memory, not pollable, the loop is closed) the caller keeps fd.
func (s *Source) Attach(l *Loop, fd FD, h Handler) error {
	if s.op != nil {
		panic("loop: Attach of an attached source")
	}
	if l.closing { // what is attached now, nobody would close
		return ErrClosed
	}
	op := l.epoll.Alloc() // its cache keeps operators alive: epoll holds a pointer that the garbage collector cannot see
	op.FD = fd.Int()
	s.loop, s.op, s.handler, s.fd = l, op, h, fd
	// OnWrite is set by Want: most clients never need it, and its closure would cost them 16 bytes.
	op.OnRead = s.onRead
	if err := op.Control(netpoll.PollReadable); err != nil {
		l.freeOperator(op)
		s.op, s.handler, s.fd = nil, nil, FD{}
		return fmt.Errorf("loop: epoll_ctl add: %w", err)
	}
	s.place = placeAt(len(l.sources))
	l.sources = append(l.sources, s)
	return nil
}

// Attached reports whether the source is registered.
func (s *Source) Attached() bool { return s.op != nil }

// Loop is the loop that the source is, or was last, attached to; nil before.
func (s *Source) Loop() *Loop { return s.loop }

// FD lends the descriptor for a syscall: -1 when the source is detached.
func (s *Source) FD() int { return s.fd.Int() }

// Want turns write interest on or off. It is cheap when nothing changes. After a hangup it fails: there will be no
// EPOLLOUT.
func (s *Source) Want(write bool) error {
	if s.op == nil || s.place.wantsWrite() == write {
		return nil
	}
	if write && s.op.OnWrite == nil { // bound once per attachment: each binding allocates
		s.op.OnWrite = s.onWrite
	}
	if err := s.op.Control(interest(write)); err != nil {
		return fmt.Errorf("loop: epoll_ctl mod: %w", err)
	}
	s.place ^= 1
	return nil
}

// interest is what netpoll calls the change to an interest that includes writing or does not.
func interest(write bool) netpoll.PollEvent {
	if write {
		return netpoll.PollR2RW
	}
	return netpoll.PollRW2R
}

// Detach leaves epoll and gives the descriptor back to the caller. A descriptor that is to be closed goes to Retire
// instead: within a batch its number must not be reused. The FD is empty when the source was not attached.
func (s *Source) Detach() FD {
	if s.op == nil {
		return FD{}
	}
	l, fd := s.loop, s.fd
	// Before close, not left to it: while the sender holds a copy of the socket, epoll keeps the registration alive
	// (epoll(7), questions and answers, Q6). ENOENT: it left epoll at a hangup already.
	if err := s.op.Control(netpoll.PollDetach); err != nil && !errors.Is(err, unix.ENOENT) {
		panic(fmt.Sprintf("loop: epoll_ctl del of %d: %v", fd.Int(), err))
	}
	// This batch may still hold readiness of the operator, and the source be attached anew by the time netpoll gets there.
	s.op.OnRead, s.op.OnWrite = ignore, ignore
	l.retiredOps = append(l.retiredOps, s.op)
	last := l.sources[len(l.sources)-1]
	l.sources[s.place.index()] = last
	last.place = placeAt(s.place.index()) | last.place&1
	l.sources[len(l.sources)-1] = nil
	l.sources = l.sources[:len(l.sources)-1]
	s.op, s.handler, s.fd, s.place = nil, nil, FD{}, 0
	return fd
}

// Retire ends callbacks at once and closes the descriptor in the sweep that ends the turn. Safe inside any callback;
// twice is safe.
func (s *Source) Retire() {
	if s.op != nil {
		s.loop.retiredFDs = append(s.loop.retiredFDs, s.Detach())
	}
}

func (s *Source) onRead(netpoll.Poll) error {
	defer s.recovered(s.handler)
	switch op := s.op; s.loop.epoll.hangup {
	case noHangup:
		s.handler.Readable()
	case hangupReadable:
		s.handler.Readable()
		if s.op == op { // not found out, nor retired, nor attached anew
			s.hungUp()
		}
	case hangupOnly:
		s.hungUp()
	}
	return nil
}

// hungUp leaves epoll, which would report the hangup for ever, and passes it on.
func (s *Source) hungUp() {
	if err := s.op.Control(netpoll.PollDetach); err != nil {
		panic(fmt.Sprintf("loop: epoll_ctl del of %d: %v", s.fd.Int(), err))
	}
	s.handler.Hangup()
}

func (s *Source) onWrite(netpoll.Poll) error {
	if s.place.wantsWrite() { // an earlier callback of the batch may have turned it off
		defer s.recovered(s.handler)
		s.handler.Writable()
	}
	return nil
}

// ignore stands in for the callbacks of a detached operator: netpoll logs a nil one as a bug.
func ignore(netpoll.Poll) error { return nil }

// recovered is deferred around each callback of h: a panic costs this source only. h is told even when the callback
// retired the source before it panicked, or what h counts would stay counted.
func (s *Source) recovered(h Handler) {
	v := recover()
	if v == nil {
		return
	}
	err := logPanic(v)
	s.Retire()
	failed(h, err)
}
