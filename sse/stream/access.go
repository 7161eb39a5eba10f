package stream

import (
	"net/http"
	"net/netip"
	"strings"
	"time"

	"streaming-daemon-go/fdrecv"
)

// idMax is how much of a user id or request id is kept, in bytes: a payload may carry one of 200 KB.
const idMax = 256

// Origin says where handoffs come from: one for each listener. Immutable; its streams share it.
type Origin struct {
	Backend    string // name of the backend, for Access
	NewBackend Maker  // nil: Config.NewBackend
}

// Access is what an access log says of a client beside its End. It has nothing that the payload owns.
type Access struct {
	Client    netip.AddrPort // the zero AddrPort: a Unix socket
	UserID    string         // cut to 256 bytes, and unchecked: escape it; likewise RequestID
	RequestID string
	Kind      fdrecv.Kind
	Backend   string        // of the Origin
	Status    int           // of the response head that the client got; 200 where Apache has sent it (fdpass); 0: none
	FirstByte time.Duration // since the handoff was accepted; 0: no byte was sent
	Upstream  Upstream      // zero: the backend has asked nobody, or nobody has answered
}

// Upstream is what a backend that asks another server has to say in an access log.
type Upstream struct {
	Status    int           // of its response; 0: none came
	FirstByte time.Duration // from the request to the first byte of its body; 0: none came
	Duration  time.Duration // of the request; 0: it was not over when the stream was
}

// NoteUpstream keeps u for the access log, in place of an earlier one.
func (s *Stream) NoteUpstream(u Upstream) {
	if s.late != nil && s.late.access != nil {
		s.late.access.Upstream = u
	}
}

// set fills in what is known when a client comes.
func (a *Access) set(h fdrecv.Handoff, from *Origin) {
	user, request := h.Payload.UserID, h.Payload.RequestID
	user, request = user[:min(len(user), idMax)], request[:min(len(request), idMax)]
	var both strings.Builder // a copy in one allocation: the ids share the memory of the whole payload
	both.Grow(len(user) + len(request))
	both.WriteString(user)
	both.WriteString(request)
	ids := both.String()
	a.Client, a.Kind, a.Backend = h.ClientAddr, h.Kind, from.Backend
	a.UserID, a.RequestID = ids[:len(user)], ids[len(user):]
}

// newLateWithAccess makes both with one allocation.
func newLateWithAccess(h fdrecv.Handoff, from *Origin) *late {
	both := &struct {
		late
		own Access
	}{}
	both.own.set(h, from)
	both.access = &both.own
	return &both.late
}

// newAccess is for clients without a stream; nil: nobody asks.
func (sh *shard) newAccess(h fdrecv.Handoff, from *Origin) *Access {
	if !sh.cfg.KeepAccess || sh.cfg.Rejected == nil {
		return nil
	}
	a := &Access{}
	a.set(h, from)
	return a
}

// settleStatus brings Status in line with what has reached the client. Before, it is that of a refusal, or 0.
func (e *End) settleStatus(headSent bool) {
	switch {
	case e.Access == nil:
	case headSent:
		e.Access.Status = http.StatusOK
	case e.Bytes == 0:
		e.Access.Status = 0
	case e.Access.Status == 0:
		e.Access.Status = http.StatusOK
	}
}
