package openai

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/stream"
)

// relay is one completion on its way from the upstream to a client. It is a stream.Backend and an upstream.Receiver.
// Loop goroutine only.
type relay struct {
	out     *stream.Stream
	sh      *shard        // immutable
	profile *profile      // immutable after Start
	call    upstream.Call // nil exactly before the call has begun
	refused *refused      // not nil exactly in phaseRefused
	parser  sse.Parser

	began    time.Duration // loop clock: Start
	firstAt  time.Duration // loop clock: the first byte of the body; 0: none yet
	heardAt  time.Duration // loop clock: the last one, or the end of a pause
	contents uint32        // pieces of text relayed
	status   uint16        // of the upstream's response; 0: none yet
	phase    phase

	headSent bool // the client's head is out or on its way
	paused   bool // the client has not caught up: silence of the upstream is our own doing
	finished bool // a finish_reason has come: all of the text is there
}

// refused is an answer other than 200 while its body comes.
type refused struct {
	retryAfter time.Duration
	body       []byte // its start, at most refusedBytes
}

// refusedBytes is how much of an error's body is read for its code.
const refusedBytes = 8 << 10

// phase is how far a relay is. to is the only writer of it.
type phase uint8

const (
	phaseAsked   phase = iota // no head of a response yet
	phaseRefused              // the response is no 200; its body is read for its code
	phaseEvents               // events come
	phaseOver                 // the stream has been ended, or has ended
	numPhases
)

var phaseNames = [numPhases]string{"asked", "refused", "events", "over"}

var legal = [numPhases][numPhases]bool{ // from, to
	phaseAsked:   {phaseRefused: true, phaseEvents: true, phaseOver: true},
	phaseRefused: {phaseOver: true},
	phaseEvents:  {phaseOver: true},
}

// to moves r to next. It panics on an illegal step (our bug).
func (r *relay) to(next phase) {
	if !legal[r.phase][next] {
		panic(fmt.Sprintf("openai: illegal step %s -> %s", phaseNames[r.phase], phaseNames[next]))
	}
	r.phase = next
}

// Start implements stream.Backend: it asks the upstream.
func (r *relay) Start(p fdrecv.Payload, out *stream.Stream) error {
	sh := r.sh
	sh.requests.Add(1)
	r.out, r.began, r.heardAt = out, out.Now(), out.Now()
	req, err := r.request(&p)
	if err != nil {
		sh.ended[BadPayload].Add(1)
		return err
	}
	if !sh.b.enter() {
		sh.ended[Limit].Add(1)
		sh.warn(Limit, 0, "", nil)
		return Limit.refusal()
	}
	out.HoldHead()
	r.call = r.profile.transport.Start(out.Loop(), req, r)
	r.schedule()
	return nil
}

func (r *relay) request(p *fdrecv.Payload) (*upstream.Request, error) {
	a, err := readPayload(p)
	if err != nil {
		return nil, err
	}
	if r.profile, err = r.sh.b.choose(a.profile); err != nil {
		return nil, err
	}
	body, err := r.profile.body(p, &a)
	if err != nil {
		return nil, err
	}
	return &upstream.Request{Path: r.profile.path, Fields: r.profile.fields, Body: body}, nil
}

// Head implements upstream.Receiver.
func (r *relay) Head(h upstream.Head) {
	r.status, r.heardAt = uint16(h.Status), r.out.Now()
	r.noteUpstream(0)
	switch {
	case h.Status != http.StatusOK:
		r.to(phaseRefused)
		r.refused = &refused{retryAfter: parseRetryAfter(string(h.RetryAfter), time.Now())}
		r.schedule()
	case !isEventStream(h.ContentType):
		r.fail(Protocol, errNoEvents)
	default:
		r.to(phaseEvents)
		r.sendHead()
	}
}

// isEventStream judges a Content-Type. Servers that forget it are believed; the parser finds out.
func isEventStream(contentType []byte) bool {
	kind, _, _ := bytes.Cut(contentType, []byte(";"))
	return len(kind) == 0 || bytes.EqualFold(bytes.TrimSpace(kind), []byte("text/event-stream"))
}

func (r *relay) sendHead() {
	if !r.headSent {
		r.headSent = true
		r.out.SendHead()
	}
}

// Body implements upstream.Receiver.
func (r *relay) Body(b []byte) {
	r.heardAt = r.out.Now()
	if r.firstAt == 0 {
		r.firstByte()
	}
	switch r.phase {
	case phaseRefused:
		if r.refused.body = append(r.refused.body, b[:min(len(b), refusedBytes-len(r.refused.body))]...); len(r.refused.body) == refusedBytes {
			r.refuse()
		}
	case phaseEvents:
		r.out.Together(func() {
			if err := r.parser.Feed(b, r.event); err != nil && r.phase == phaseEvents {
				r.fail(Protocol, err)
			}
		})
	}
}

func (r *relay) firstByte() {
	r.firstAt = r.out.Now()
	r.noteUpstream(0)
	if f := r.sh.b.opt.FirstByte; f != nil {
		f(r.firstAt - r.began)
	}
	r.schedule() // another timeout holds from here on
}

// End implements upstream.Receiver.
func (r *relay) End() {
	switch {
	case r.phase == phaseRefused:
		r.refuse()
	case r.phase == phaseEvents && r.finished: // some servers send no [DONE]
		r.complete()
	case r.phase == phaseEvents:
		r.fail(Cut, nil)
	}
}

// Fail implements upstream.Receiver.
func (r *relay) Fail(err error) {
	switch r.phase {
	case phaseRefused: // what the status says is known
		r.refuse()
	case phaseAsked, phaseEvents:
		r.fail(reasonOf(err), err)
	}
}

// Pause implements stream.Backend.
func (r *relay) Pause() {
	r.paused = true
	r.call.Pause()
}

// Resume implements stream.Backend.
func (r *relay) Resume() {
	r.paused, r.heardAt = false, r.out.Now()
	r.call.Resume()
	r.schedule()
}

// Drain implements stream.Backend: a completion ends by itself.
func (r *relay) Drain() {}

// Stop implements stream.Backend. After an end of our own there is nothing left to do, nor after a panic in Start.
func (r *relay) Stop(error) {
	if r.phase != phaseOver && r.call != nil {
		r.call.Cancel()
		r.over(Canceled)
	}
}

// complete ends a stream that went well. The rest of the response is nobody's concern: it is [DONE]'s own blank line
// and the end of the body.
func (r *relay) complete() {
	r.call.Release()
	r.over(None)
	r.out.End(nil)
}

// fail ends a stream that did not.
func (r *relay) fail(reason Reason, err error) {
	r.sh.warn(reason, int(r.status), "", err)
	r.call.Cancel()
	r.over(reason)
	r.out.End(reason.refusal())
}

// refuse ends a stream that the upstream has refused.
func (r *relay) refuse() {
	status, answer := int(r.status), r.refused
	code := errorCode(answer.body)
	reason := reasonForStatus(status)
	r.sh.warn(reason, status, code, nil)
	r.call.Cancel() // over already, unless its body is long or stuck
	r.over(reason)
	r.out.End(refusalForStatus(status, code, answer.retryAfter))
}

// over closes the completion's account.
func (r *relay) over(reason Reason) {
	r.to(phaseOver)
	r.refused = nil
	r.out.WakeAt(0)
	r.sh.b.leave()
	r.sh.ended[reason].Add(1)
	took := r.sh.loop.Clock() - r.began
	r.noteUpstream(took)
	f := r.sh.b.opt.Ended
	if f == nil {
		return
	}
	e := End{Reason: reason, Status: int(r.status), Duration: took, Contents: int(r.contents)}
	if r.firstAt != 0 {
		e.FirstByte = r.firstAt - r.began
	}
	f(e)
}

// noteUpstream is for the access log; took is 0 while the completion is under way.
func (r *relay) noteUpstream(took time.Duration) {
	u := stream.Upstream{Status: int(r.status), Duration: took}
	if r.firstAt != 0 {
		u.FirstByte = r.firstAt - r.began
	}
	r.out.NoteUpstream(u)
}

var errUpstreamEvent = errors.New("an error event")

// event takes one event of the upstream.
func (r *relay) event(ev sse.Event) {
	if r.phase != phaseEvents {
		return // after [DONE], or after a failure
	}
	r.sh.events.Add(1)
	if isDone(ev.Data) {
		r.complete()
		return
	}
	d, err := parseDelta(ev.Data)
	switch {
	case err == nil && d.failed != nil, string(ev.Name) == "error":
		r.fail(Reported, errUpstreamEvent)
	case r.profile.relay == Raw:
		r.relayRaw(ev, &d)
	case err != nil:
		r.fail(Protocol, err)
	default:
		r.relayDelta(&d)
	}
}

// relayRaw sends an event as it is.
func (r *relay) relayRaw(ev sse.Event, d *delta) {
	b := sse.AppendEvent(r.out.Buffer(), ev)
	r.send(b)
	r.note(d)
}

// relayDelta sends what a chunk says, an event for each kind.
func (r *relay) relayDelta(d *delta) {
	if d.content != nil && !isEmptyString(d.content) {
		r.send(appendObject(r.out.Buffer(), "", "content", d.content))
	}
	if d.refusal != nil && !isEmptyString(d.refusal) {
		r.send(appendObject(r.out.Buffer(), "refusal", "refusal", d.refusal))
	}
	if d.toolCalls != nil {
		r.send(appendObject(r.out.Buffer(), "tool_calls", "tool_calls", d.toolCalls))
	}
	if d.finish != nil {
		r.send(appendObject(r.out.Buffer(), "finish_reason", "finish_reason", d.finish))
	}
	r.note(d)
}

// note remembers what matters of a chunk that was relayed.
func (r *relay) note(d *delta) {
	if d.content != nil && !isEmptyString(d.content) {
		r.contents++
		r.sh.contents.Add(1)
	}
	r.finished = r.finished || d.finish != nil
}

// send gives the client an event. More than is welcome is no harm: Pause follows, and what was read by then is bounded.
func (r *relay) send(b []byte) {
	r.out.KeepBuffer(b)
	r.out.SendCopy(b)
}

// appendObject adds an event with a JSON object of one member, whose value is JSON already. A line feed within it is
// white space between tokens (a string has none) and would end the data line.
func appendObject(dst []byte, event, name string, value []byte) []byte {
	if event != "" {
		dst = append(dst, "event: "...)
		dst = append(dst, event...)
		dst = append(dst, '\n')
	}
	dst = append(dst, `data: {"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	start := len(dst)
	dst = append(dst, value...)
	for rest := dst[start:]; ; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			break
		}
		rest[i] = ' '
		rest = rest[i+1:]
	}
	return append(dst, "}\n\n"...)
}
