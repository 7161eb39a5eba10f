package fdrecv

import (
	"fmt"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// Claim is the right to remove the path of a listening socket, with what tells that path from one that somebody else
// has put in its place. It is plain data: it travels to a successor beside the socket. The zero Claim is none.
type Claim struct {
	Path   string `json:"path,omitempty"`
	Device uint64 `json:"device,omitempty"`
	Inode  uint64 `json:"inode,omitempty"`
}

// Claim gives the Listener's own; the zero one when its socket was inherited and its path is somebody else's. Any
// goroutine.
func (ln *Listener) Claim() Claim {
	if ln.bound == nil {
		return Claim{}
	}
	return Claim{ln.bound.path, ln.bound.inode.device, ln.bound.inode.number}
}

// TakeOver makes the path of an inherited socket the Listener's own, as the predecessor who let it go says: from now
// on Drain and Close remove it, and Drain shuts the socket down. Nobody else may hold the socket any more by then. The
// zero Claim changes nothing. Only the goroutine that made the Listener, before Serve.
func (ln *Listener) TakeOver(c Claim) {
	if c != (Claim{}) {
		ln.bound = &boundPath{path: c.Path, inode: inode{c.Device, c.Inode}}
	}
}

// Duplicate gives a second descriptor of the listening socket, close-on-exec, for a successor. The caller owns it.
// Any goroutine but the loop's, on which it waits for a turn. An error: the Listener is closed, or no descriptor is
// to be had.
func (ln *Listener) Duplicate() (loop.FD, error) {
	type outcome struct {
		fd  loop.FD
		err error
	}
	var o outcome
	duplicate := func() {
		var n int
		if n, o.err = unix.FcntlInt(uintptr(ln.socket()), unix.F_DUPFD_CLOEXEC, 0); o.err == nil {
			o.fd = loop.OwnFD(n)
		}
	}
	if err := ln.ask(duplicate); err != nil {
		o.err = err
	}
	if o.err != nil {
		return loop.FD{}, fmt.Errorf("fdrecv: duplicate of %s: %w", ln.name(), o.err)
	}
	return o.fd, nil
}

// LetGo leaves the socket, its path and its backlog to whoever holds a duplicate (P-22): it stops accepting and closes
// its own descriptor, without shutdown and without unlink, now and in a later Drain or Close. Incomplete handoffs
// complete or time out. Then done runs: on the loop, or here and now when the Listener is closed or was never served.
// Any goroutine.
func (ln *Listener) LetGo(done func()) {
	if ln.bound != nil {
		ln.bound.removal.Do(func() {}) // the path was removed, as far as this process is concerned
	}
	ln.end(func() {
		if ln.state == stateClosed {
			runDone(done)
			return
		}
		ln.done = append(ln.done, done)
		ln.stopListening()
	}, done)
}

// Listening reports whether connects are still accepted: false once the Listener drains, was let go, closed or lost.
// Any goroutine but the loop's, on which it waits for a turn.
func (ln *Listener) Listening() bool {
	listening := false
	err := ln.ask(func() { listening = ln.state == stateIdle || ln.state == stateServing })
	return err == nil && listening
}

// ask runs f where the Listener's state may be read, and waits for it: on the loop, or before Serve here. ErrClosed of
// package loop: f did not run.
func (ln *Listener) ask(f func()) error {
	ln.mu.Lock()
	l := ln.loop
	if l == nil {
		defer ln.mu.Unlock()
		f()
		return nil
	}
	ln.mu.Unlock()
	ran := make(chan struct{})
	if err := l.Post(func() { defer close(ran); f() }); err != nil {
		return err
	}
	<-ran
	return nil
}
