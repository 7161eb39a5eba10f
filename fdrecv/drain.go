package fdrecv

import (
	"log/slog"

	"golang.org/x/sys/unix"
)

// Drain takes no new handoffs and loses none that a sender believes delivered (P-22): it removes the path when that
// is still ours, shuts the socket down for reading (new connects get ECONNREFUSED), accepts all that is queued, a
// budget per turn, and closes; incomplete handoffs complete or time out. Config.Handoff is called as before. Then
// done runs: on the loop, or here and now when the Listener is closed or was never served.
//
// Drain takes as long as the backlog has to wait for room (also Config.Admit) and incomplete handoffs take; Close cuts it
// short.
//
// An inherited socket is neither removed nor shut down: its backlog belongs to whoever else holds it.
//
// Any goroutine; twice is safe, and each done runs. It touches the file system in the calling goroutine.
func (ln *Listener) Drain(done func()) {
	ln.removePath()
	ln.end(func() { ln.drain(done) }, done)
}

// Close is the end at once: the path is removed when it is still ours, connections in the backlog are dropped by the
// kernel, and handoffs that are incomplete or wait for room end with ErrClosed. Of a Listener that is draining, the done functions run.
// Any goroutine; it does not wait for the loop. Twice is safe.
func (ln *Listener) Close() {
	ln.removePath()
	ln.end(ln.closeNow, func() {})
}

// end runs f on the loop. Without a loop it closes the socket here and calls otherwise.
func (ln *Listener) end(f, otherwise func()) {
	ln.mu.Lock()
	l := ln.loop
	if l == nil {
		_ = ln.fd.Close()
		if ln.state == stateIdle {
			ln.to(stateClosed)
		}
	}
	ln.mu.Unlock()
	if l == nil {
		otherwise()
	} else if err := l.Post(f); err != nil {
		// The loop is closed, and with it everything that was attached. What was not is the socket of a Listener that
		// backed off, and the clients of incomplete handoffs, whom nobody can answer any more.
		ln.mu.Lock()
		_ = ln.fd.Close()
		for _, list := range []*pendingList{&ln.silent, &ln.withClient, &ln.waiting} {
			for p := list.first; p != nil; p = p.next {
				_ = p.conn.Close()
				_ = p.in.client.Close()
			}
		}
		ln.mu.Unlock()
		otherwise()
	}
}

// drain is the first step of Drain on the loop.
func (ln *Listener) drain(done func()) {
	if ln.state == stateClosed {
		runDone(done)
		return
	}
	ln.done = append(ln.done, done)
	if ln.state != stateServing {
		return
	}
	if ln.bound == nil {
		ln.stopListening()
		return
	}
	// Off epoll first: a socket that is shut down reports a hangup for ever.
	ln.loop.Stop(&ln.timer)
	if ln.source.Attached() {
		ln.fd = ln.source.Detach()
	}
	if err := unix.Shutdown(ln.fd.Int(), unix.SHUT_RD); err != nil {
		slog.Error("fdrecv: shutdown", "path", ln.name(), "error", err)
	}
	ln.to(stateDraining)
	ln.acceptTurn()
}

// drainTurn is the next step of a drain that the budget stopped. A back-off may have come between.
func (ln *Listener) drainTurn() {
	if ln.state == stateDraining && !ln.timer.Armed() {
		ln.acceptTurn()
	}
}

// closeNow is Close on the loop.
func (ln *Listener) closeNow() {
	if ln.state == stateClosed {
		return
	}
	ln.closeSocket()
	if ln.state != stateClosing {
		ln.to(stateClosing)
	}
	for _, list := range []*pendingList{&ln.silent, &ln.withClient, &ln.waiting} {
		for list.first != nil {
			list.first.end(errClosed)
		}
	}
	ln.loop.Stop(&ln.timer)
	ln.checkDrained()
}

// closeSocket closes the listening socket, in the sweep if it is attached. Handoffs that wait for room are tried again.
func (ln *Listener) closeSocket() {
	if ln.waiting.first == nil {
		ln.loop.Stop(&ln.timer)
	}
	ln.source.Retire()
	_ = ln.fd.Close()
}

// checkDrained runs the done functions once nothing is left.
func (ln *Listener) checkDrained() {
	if ln.state != stateClosing || ln.pendingCount > 0 {
		return
	}
	ln.to(stateClosed)
	for _, done := range ln.done {
		runDone(done)
	}
	ln.done = nil
}

func runDone(done func()) {
	defer recovered()
	done()
}

// post queues f on the loop, which may have been closed meanwhile: then there is nobody left to do it for.
func (ln *Listener) post(f func()) { _ = ln.loop.Post(f) }
