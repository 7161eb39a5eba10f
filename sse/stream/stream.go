package stream

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
)

// Stream is the run of events to one client, from head to last byte. A backend sends to it. Loop goroutine only,
// except for Loop.
//
// The bracket that keeps it simple: begin and done stand around every call into the backend and every send. Nothing
// leaves for the kernel, and the backend hears nothing, before the outermost one is done.
type Stream struct {
	conn    conn.Conn
	timer   loop.Timer // set for the earliest of wakeAt, heartbeat and deadline
	shard   *shard     // immutable
	backend Backend    // nil exactly before Start and once it has been stopped
	late    *late      // nil for nearly every stream, unless Config.KeepAccess is set

	accepted time.Duration // loop clock: when the handoff connection was accepted
	lastSend time.Duration // loop clock
	wakeAt   time.Duration // loop clock; 0: no wake asked for

	events uint32
	phase  phase
	depth  uint8 // brackets open
	flags  flags
}

// late is what few streams need.
type late struct {
	headers []sse.Header // for a refusal while the head is held
	cause   error        // for Stop
	access  *Access      // nil: Config.KeepAccess was not set when the stream began
}

// flags are facts and errands of a stream that no other field shows.
type flags uint8

const (
	tellPause  flags = 1 << iota // the conn was paused, the backend has not heard
	tellResume                   // likewise resumed
	tellStop                     // the stream is ending or over, the backend has not heard
	tellPosted                   // a look at the errands above is posted
	bodyOnly                     // somebody else has sent the response head (fdpass)
	firstByte                    // the time to the first byte has been observed

	tellAny = tellPause | tellResume | tellStop
)

// phase is how far a Stream is. to is the only writer of it.
type phase uint8

const (
	phaseHead   phase = iota // nothing has been offered to the kernel: the client can still be refused
	phaseHeld                // the same, and the backend has asked to keep it so (HoldHead)
	phaseLive                // the head is under way
	phaseEnding              // the last byte is queued
	phaseOver                // the conn takes nothing more
	numPhases
)

var phaseNames = [numPhases]string{"head", "held", "live", "ending", "over"}

var legal = [numPhases][numPhases]bool{ // from, to
	phaseHead:   {phaseHeld: true, phaseLive: true, phaseEnding: true, phaseOver: true},
	phaseHeld:   {phaseLive: true, phaseEnding: true, phaseOver: true},
	phaseLive:   {phaseEnding: true, phaseOver: true},
	phaseEnding: {phaseOver: true},
}

// to moves s to next. It panics on an illegal step (our bug).
func (s *Stream) to(next phase) {
	if !legal[s.phase][next] {
		panic(fmt.Sprintf("stream: illegal step %s -> %s", phaseNames[s.phase], phaseNames[next]))
	}
	s.phase = next
}

// start begins the stream of an admitted client whose conn is open. headers have passed sse.CheckHeader.
func (s *Stream) start(newBackend Maker, p fdrecv.Payload, headers []sse.Header) {
	sh := s.shard
	sh.starting = headers
	if s.flags&bodyOnly == 0 {
		s.queueScratch(sse.AppendHead(s.Buffer(), headers))
	}
	s.lastSend = s.Now()
	if sh.cutting {
		s.End(ErrCut)
	} else {
		s.startBackend(newBackend, p)
	}
	sh.starting = nil
	if sh.draining {
		s.drain()
	}
}

// startBackend makes the backend and starts it. A panic in either refuses this client only.
func (s *Stream) startBackend(newBackend Maker, p fdrecv.Payload) {
	s.begin()
	defer s.called()
	s.backend = newBackend(s.shard.loop)
	if err := s.backend.Start(p, s); err != nil {
		s.backend = nil
		s.End(err)
	}
}

// Loop is the loop that the stream and its backend live on. Any goroutine.
func (s *Stream) Loop() *loop.Loop { return s.shard.loop }

// Now is the time of this turn on the loop's clock.
func (s *Stream) Now() time.Duration { return s.shard.loop.Now() }

// Shard is for backends that do I/O of their own through package conn.
func (s *Stream) Shard() *conn.Shard { return s.shard.conns }

// Send queues one encoded event. The bytes are not copied and may wait in many streams at once: never write to them
// again. It reports whether more is welcome; after false, Pause or Stop follows. Nothing of what was sent is lost
// but by the end of the stream. On a stream that is over it does nothing.
func (s *Stream) Send(event []byte) bool {
	if s.phase >= phaseEnding {
		return false
	}
	s.begin()
	s.conn.Queue(event)
	return s.queued()
}

// SendCopy is Send for bytes that the caller uses again.
func (s *Stream) SendCopy(event []byte) bool {
	if s.phase >= phaseEnding {
		return false
	}
	s.begin()
	s.conn.QueueCopy(event)
	return s.queued()
}

// queued counts the event that a send has queued, closes its bracket, and reports whether more is welcome.
func (s *Stream) queued() bool {
	s.events++
	s.shard.counts.events.Add(1)
	s.lastSend = s.Now()
	s.letGo()
	if s.conn.Full() {
		s.push()
	}
	s.done()
	return s.conn.Writable() && !s.conn.IsPaused()
}

// Together runs f, and what f sends leaves in one write: for a backend that is called by its own I/O, not by the
// stream, and has several events at once. Within the backend's own callbacks that holds anyway.
func (s *Stream) Together(f func()) {
	s.begin()
	defer s.done()
	f()
}

// Buffer is an empty scratch buffer of the loop, for encoding what SendCopy is given. It is valid until the next call
// of a Stream's method on this loop other than SendCopy; KeepBuffer gives it back after it grew.
func (s *Stream) Buffer() []byte { return s.shard.scratch[:0] }

// KeepBuffer makes b, a grown Buffer, the loop's scratch buffer, if its size is within reason.
func (s *Stream) KeepBuffer(b []byte) { s.shard.keep(b) }

// HoldHead keeps the response head back, so that End can still refuse the client with a status of its own; the first
// Send, or SendHead, lets it go. Only from within Start. Behind fdpass there is no head to hold.
func (s *Stream) HoldHead() {
	if s.phase == phaseHead && s.flags&bodyOnly == 0 {
		s.to(phaseHeld)
		s.needLate().headers = cloneHeaders(s.shard.starting)
	}
}

// cloneHeaders copies what would otherwise keep the whole payload in memory for as long as the head is held.
func cloneHeaders(headers []sse.Header) []sse.Header {
	var own []sse.Header
	for _, h := range headers {
		own = append(own, sse.Header{Name: strings.Clone(h.Name), Value: strings.Clone(h.Value)})
	}
	return own
}

// letGo ends the holding of the head; the coming push sends it.
func (s *Stream) letGo() {
	if s.phase == phaseHeld {
		s.to(phaseLive)
		if s.late.headers = nil; s.late.access == nil { // no refusal any more, and no cause yet
			s.late = nil
		}
	}
}

// SendHead sends a head that is held: heartbeats go out from now on.
func (s *Stream) SendHead() {
	if s.phase == phaseHeld {
		s.begin()
		s.letGo()
		s.lastSend = s.Now()
		s.done()
	}
}

// End ends the stream: with [DONE] when err is nil, else with an error event and no [DONE] or, as long as neither head
// nor event was sent, with a refusal (see Refusal). Stop follows. A second End does nothing.
func (s *Stream) End(err error) { s.end(err, 0) }

// end is End with a reconnection time for the client's EventSource; 0: none.
func (s *Stream) end(err error, retry time.Duration) {
	if s.phase >= phaseEnding {
		return
	}
	s.begin()
	switch {
	case err == nil:
		s.conn.Queue(doneEvent)
	case s.phase <= phaseHeld && s.events == 0:
		r := refusalFor(err)
		r.RetryAfter = max(r.RetryAfter, retry)
		s.refuse(r)
	default:
		if r := (*Refusal)(nil); errors.As(err, &r) {
			retry = max(retry, r.RetryAfter)
		}
		s.queueScratch(sse.AppendError(s.Buffer(), endText(err), retry))
	}
	s.to(phaseEnding)
	s.stopLater(err)
	s.done()
}

// refuse queues a refusal in place of the head.
func (s *Stream) refuse(r Refusal) {
	s.conn.Discard()
	headers := s.shard.starting
	if s.phase == phaseHeld {
		headers = s.late.headers
	}
	if s.late != nil && s.late.access != nil {
		s.late.access.Status = r.Status
	}
	s.queueScratch(appendRefusal(s.Buffer(), r, headers, s.flags&bodyOnly != 0))
}

func (s *Stream) queueScratch(b []byte) {
	s.conn.QueueCopy(b)
	s.KeepBuffer(b)
}

// begin opens a bracket: see Stream.
func (s *Stream) begin() { s.depth++ }

// done closes a bracket that a send opened. When it is the outermost (a posted function sends, or another stream's
// backend), what the backend has to hear is posted: it must not be called from inside its own Send.
func (s *Stream) done() {
	if s.depth > 1 {
		s.depth--
		return
	}
	s.push()
	s.depth--
	if s.flags&tellAny != 0 && s.flags&tellPosted == 0 {
		s.flags |= tellPosted
		_ = s.shard.loop.Post(func() { // ErrClosed: the process ends, there is nobody to be told
			s.flags &^= tellPosted
			s.tell()
		})
	}
}

// call makes one call into the backend, as long as the stream lasts. A panic ends this stream.
func (s *Stream) call(f func(Backend)) {
	if !s.callable() {
		return
	}
	s.begin()
	defer s.called()
	f(s.backend)
}

// callable reports whether the backend may be called.
func (s *Stream) callable() bool { return s.backend != nil && s.phase < phaseEnding }

// called closes the bracket of call, which defers it.
func (s *Stream) called() {
	if v := recover(); v != nil {
		s.depth = 1 // a panic on its way through a send has left that one's bracket open
		s.shard.logPanic(v, debug.Stack())
		s.End(fmt.Errorf("%w: %v", ErrPanic, v))
	}
	s.push()
	s.depth--
	s.tell()
	s.setTimer()
}

// push offers what is queued to the kernel.
func (s *Stream) push() {
	switch s.phase {
	case phaseHeld, phaseOver:
		return
	case phaseEnding:
		if s.conn.Writable() {
			s.conn.Finish()
		}
	case phaseHead:
		s.to(phaseLive)
		s.conn.Flush()
	default:
		s.conn.Flush()
	}
	s.noteFirstByte()
}

// noteFirstByte observes the time to the first byte, once.
func (s *Stream) noteFirstByte() {
	if s.flags&firstByte == 0 && s.conn.Sent() > 0 {
		s.flags |= firstByte
		d := s.shard.loop.Clock() - s.accepted
		if s.late != nil && s.late.access != nil {
			s.late.access.FirstByte = d
		}
		s.shard.observeFirstByte(d)
	}
}

// tell delivers what the backend has not heard yet.
func (s *Stream) tell() {
	for s.depth == 0 && s.flags&tellAny != 0 {
		switch {
		case s.flags&tellStop != 0:
			s.flags &^= tellAny
			s.stop()
		case s.flags&tellPause != 0:
			s.flags &^= tellPause
			s.call(Backend.Pause)
		default:
			s.flags &^= tellResume
			s.call(Backend.Resume)
		}
	}
}

// stopLater notes the first cause of the end for Stop.
func (s *Stream) stopLater(cause error) {
	if s.backend != nil {
		s.flags |= tellStop
	}
	if cause == nil || (s.late != nil && s.late.cause != nil) {
		return
	}
	s.needLate().cause = cause
}

func (s *Stream) needLate() *late {
	if s.late == nil {
		s.late = &late{}
	}
	return s.late
}

// stop tells the backend that it is over, exactly once.
func (s *Stream) stop() {
	b := s.backend
	if b == nil {
		return
	}
	s.backend = nil
	defer func() {
		if v := recover(); v != nil {
			s.shard.logPanic(v, debug.Stack())
		}
	}()
	b.Stop(s.cause())
}

// cause is why the stream ends; nil: its backend ended it and all went well so far.
func (s *Stream) cause() error {
	if s.late == nil {
		return nil
	}
	return s.late.cause
}

// drain tells the backend of the drain.
func (s *Stream) drain() { s.call(Backend.Drain) }

// owner is what the conn tells; a type of its own keeps these methods out of the backends' sight.
type owner Stream

// Paused: a Resume that the backend has not heard yet is void, it stays paused.
func (o *owner) Paused() {
	s := (*Stream)(o)
	if s.flags&tellResume != 0 {
		s.flags &^= tellResume
	} else {
		s.flags |= tellPause
	}
	s.tell()
}

// Resumed: a Pause that the backend has not heard yet is not void. A Send has said already that no more is welcome,
// and who stopped at that waits for this Resume; tell delivers the two in order.
func (o *owner) Resumed() {
	s := (*Stream)(o)
	s.flags |= tellResume
	s.tell()
}

func (o *owner) Ended(cause error) {
	s := (*Stream)(o)
	s.to(phaseOver)
	s.noteFirstByte()
	s.shard.loop.Stop(&s.timer)
	s.stopLater(cause)
	s.shard.ended(s)
	s.tell()
}

func (o *owner) Released() { (*Stream)(o).shard.server.released((*Stream)(o).shard) }
