package fdrecv

import (
	"errors"
	"log/slog"
)

var errNotAdmitted = errors.New("Config.Admit says no")

// backOff leaves epoll for BackOff: the socket stays readable, so that staying would spin. Then what waits for room is
// tried first.
//
// The usual trick at EMFILE (keep a spare descriptor, close it, accept with it, close at once) has no place here: it
// would take a client that the sender believes delivered (P-01) and drop it. In the backlog it loses nothing but
// time, and when that is full, Apache is told and answers 503 itself (P-02).
func (ln *Listener) backOff(cause error) {
	if ln.source.Attached() {
		ln.fd = ln.source.Detach()
	}
	now := ln.loop.Now()
	ln.loop.Arm(&ln.timer, now+BackOff)
	ln.backOffs++
	if ln.logged && now-ln.loggedAt < logInterval {
		return
	}
	slog.Warn("fdrecv: handoffs wait in the backlog", "path", ln.name(), "cause", cause, "waits", ln.backOffs)
	ln.logged, ln.loggedAt, ln.backOffs = true, now, 0
}

// Fire implements loop.Firer: the wait is over.
func (ln *Listener) Fire() {
	if !ln.takeWaiting() {
		ln.backOff(errNoRoom)
		return
	}
	switch ln.state {
	case stateServing:
		ln.attach()
	case stateDraining:
		ln.acceptTurn()
	}
}
