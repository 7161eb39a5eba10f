package fdrecv

import (
	"errors"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

const (
	ControlRoom = controlRoom
	FDsMax      = fdsMax
)

// EachRight opens the control message parser; it owns nothing.
func EachRight(control []byte, f func(fd int32)) { eachRight(control, f) }

// ReceiveOn runs the receive state machine of a handoff on a socket that the test made, after a first piece of it came.
// It gives the outcomes of both steps.
func ReceiveOn(fd int, kind Kind, between func()) (first bool, h Handoff) {
	var in incoming
	var b Buffer
	done, err := in.receive(fd, kind, PayloadMax, &b)
	if first = done; !done {
		between()
		if done, err = in.receive(fd, kind, PayloadMax, &b); !done {
			err = errors.New("not done")
		}
	}
	return first, in.outcome(kind, err)
}

// AcceptTurn is one turn's share of accepts, for the benchmark. Loop goroutine only.
func (ln *Listener) AcceptTurn() { ln.acceptTurn() }

// PendingCount is how many handoffs are incomplete. Any goroutine: it asks the loop.
func (ln *Listener) PendingCount() int {
	count := make(chan int)
	if ln.loop.Post(func() { count <- ln.pendingCount }) != nil {
		return 0
	}
	return <-count
}

// SocketFD gives the listening socket's number before Serve.
func (ln *Listener) SocketFD() int { return ln.fd.Int() }

// FDOf gives up the listening socket, as a service manager would pass it on.
func (ln *Listener) FDOf() loop.FD {
	fd := ln.fd
	ln.fd = loop.FD{}
	return fd
}

// CloseOnExec reports FD_CLOEXEC.
func CloseOnExec(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == nil && flags&unix.FD_CLOEXEC != 0
}

// Spin receives handoffs without a loop: it asks again for as long as nothing has come.
type Spin struct{ b Buffer }

// NewSpin gives a Spin with a buffer of its own.
func NewSpin() *Spin { return &Spin{} }

// Receive spins until the handoff on a non-blocking socket has ended, one way or the other.
func (s *Spin) Receive(fd int, kind Kind) Handoff {
	var in incoming
	for {
		if done, err := in.receive(fd, kind, PayloadMax, &s.b); done {
			return in.outcome(kind, err)
		}
	}
}
