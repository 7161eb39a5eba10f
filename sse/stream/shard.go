package stream

import (
	"errors"
	"sync/atomic"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
)

// scratchMax bounds the scratch buffer that a loop keeps.
const scratchMax = 64 << 10 // bytes

// shard is what the streams of one loop share.
type shard struct {
	server *Server     // immutable
	loop   *loop.Loop  // immutable
	conns  *conn.Shard // immutable

	// owned by the loop
	cfg                          *Config // immutable; Reconfigure puts another in its place
	scratch                      []byte
	starting                     []sse.Header // response headers of the stream whose Start is under way
	draining                     bool         // told by Drain
	cutting                      bool         // told by Cut
	headerLog, panicLog, openLog logLimit

	load   atomic.Int64 // streams placed here that are not released yet, those still on their way included
	counts counts
}

// counts has one writer, the loop, and any number of readers.
type counts struct {
	active atomic.Int64  // streams that have begun and not ended
	events atomic.Uint64 // events sent
}

// open begins the stream of an admitted handoff. Loop goroutine only; it takes h.Client.
func (sh *shard) open(h fdrecv.Handoff, from *Origin) {
	s := &Stream{shard: sh, accepted: h.AcceptedAt}
	if sh.cfg.KeepAccess {
		s.late = newLateWithAccess(h, from)
	}
	s.timer.Firer = (*alarm)(s)
	if h.HeadSent {
		s.flags |= bodyOnly
	}
	if err := s.conn.Open(sh.conns, h.Client, h.ClientAddr.IsValid(), (*owner)(s)); err != nil {
		_ = h.Client.Close()
		sh.server.released(sh)
		sh.openFailed(err)
		return
	}
	sh.counts.active.Add(1)
	sh.server.notePeak()
	newBackend := from.NewBackend
	if newBackend == nil {
		newBackend = sh.cfg.NewBackend
	}
	s.start(newBackend, h.Payload, sh.checkHeaders(h.Payload))
}

// ended counts a stream that is over. Its conn may linger.
func (sh *shard) ended(s *Stream) {
	sh.counts.active.Add(-1)
	sh.server.active.Add(-1)
	cause := s.cause()
	if errors.Is(cause, ErrCut) {
		sh.server.cut.Add(1)
	}
	if f := sh.cfg.Ended; f != nil {
		e := End{Duration: sh.loop.Clock() - s.accepted, Events: uint64(s.events), Bytes: s.conn.Sent(), Cause: cause}
		if s.late != nil {
			e.Access = s.late.access
			e.settleStatus(s.flags&bodyOnly != 0)
		}
		f(e)
	}
}

func (sh *shard) observeFirstByte(d time.Duration) {
	if f := sh.cfg.FirstByte; f != nil {
		f(d)
	}
}

// refuse answers a client that gets no stream. Loop goroutine only; it takes h.Client. headers are checked here.
func (sh *shard) refuse(h fdrecv.Handoff, from *Origin, why rejecting) {
	rej := &rejection{shard: sh, cause: why.cause, accepted: h.AcceptedAt, headSent: h.HeadSent, access: sh.newAccess(h, from)}
	if rej.access != nil {
		rej.access.Status = why.refusal.Status
		if why.status != 0 {
			rej.access.Status = why.status
		}
	}
	if err := rej.conn.Open(sh.conns, h.Client, h.ClientAddr.IsValid(), rej); err != nil {
		_ = h.Client.Close()
		sh.server.rejecting.Add(-1)
		sh.openFailed(err)
		return
	}
	b := why.encode(sh.scratch[:0], why.refusal, sh.checkHeaders(h.Payload), h.HeadSent)
	rej.conn.QueueCopy(b)
	sh.keep(b)
	rej.conn.Finish()
}

// keep makes b, the scratch buffer after it grew, the one to use from now on, if its size is within reason.
func (sh *shard) keep(b []byte) {
	if cap(b) > cap(sh.scratch) && cap(b) <= scratchMax {
		sh.scratch = b
	}
}

// checkHeaders gives the response headers of a payload without the bad ones.
func (sh *shard) checkHeaders(p fdrecv.Payload) []sse.Header {
	if len(p.ResponseHeaders) == 0 {
		return nil
	}
	good := make([]sse.Header, 0, len(p.ResponseHeaders))
	for _, f := range p.ResponseHeaders {
		h := sse.Header{Name: f.Name, Value: f.Value}
		if err := sse.CheckHeader(h); err != nil {
			if n, ok := sh.headerLog.allow(sh.loop.Now()); ok {
				sh.cfg.Log.Warn("a response header of the payload was dropped", "name", f.Name, "error", err,
					"request_id", p.RequestID, "more_since_last_line", n)
			}
			continue
		}
		good = append(good, h)
	}
	return good
}

func (sh *shard) logPanic(v any, stack []byte) {
	if n, ok := sh.panicLog.allow(sh.loop.Now()); ok {
		sh.cfg.Log.Error("panic in a backend: its stream is ended", "panic", v, "stack", string(stack),
			"more_since_last_line", n)
	}
}

func (sh *shard) openFailed(err error) {
	if f := sh.cfg.OpenFailed; f != nil {
		f(err)
	}
	if n, ok := sh.openLog.allow(sh.loop.Now()); ok {
		sh.cfg.Log.Error("a client was lost: its socket could not be taken over", "error", err, "more_since_last_line", n)
	}
}

// logLimit lets one line a second through. Loop goroutine only.
type logLimit struct {
	next     time.Duration // loop clock
	withheld int
}

// allow reports whether a line may be written at time now, and how many were withheld since the last one.
func (l *logLimit) allow(now time.Duration) (withheld int, ok bool) {
	if now < l.next {
		l.withheld++
		return 0, false
	}
	withheld, l.withheld, l.next = l.withheld, 0, now+time.Second
	return withheld, true
}
