package h1

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
)

// conn is one connection to the upstream. It is a loop.Handler. Loop goroutine only.
type conn struct {
	source loop.Source
	spare  loop.FD   // held exactly while out of epoll: queued, paused
	sh     *shard    // immutable
	call   *call     // nil exactly while nobody waits: new, tail, idle, closed
	addrs  addresses // still to be tried, the present one first; until connected
	held   []byte    // the start of a head that has not come whole; nil for nearly every response
	body   body      // valid from reading to tail

	begun      time.Duration // loop clock: the first attempt to connect
	since      time.Duration // loop clock: on the list of its state
	prev, next *conn         // on that list

	sent     int32 // bytes of the request that the kernel took
	tailLeft int32 // bytes of the tail that may still come
	seen     int32 // bytes of held that hold no end of a head
	state    state

	reused    bool // it has served a call before the present one
	answered  bool // something of the present response was seen
	keepAlive bool // from the head on: the connection can serve another call
	rerouted  bool // an address before the present one failed
}

// bind gives a connection without a call to one.
func (c *conn) bind(call *call) {
	c.call, call.conn = call, c
	c.sent, c.seen, c.answered, c.keepAlive = 0, 0, false, false
}

// serve sends the request of another call on an idle connection.
func (c *conn) serve(call *call) {
	c.reused = true
	c.bind(call)
	c.to(stateSending)
	c.send()
}

// attach registers the descriptor that is held spare. false: it could not, and the connection is gone with its call.
func (c *conn) attach() bool {
	err := c.source.Attach(c.sh.loop, c.spare, c)
	if err == nil {
		c.spare = loop.FD{}
		return true
	}
	c.failLater(fmt.Errorf("%w: %w", upstream.ErrConnect, err))
	return false
}

// send writes as much of the request as the kernel takes. The head is made anew for each attempt: nearly always there
// is one.
func (c *conn) send() {
	sh := c.sh
	req := c.call.req
	head := sh.t.appendHead(sh.scratch[:0], req)
	sh.scratch = head[:0]
	total := len(head) + len(req.Body)
	for range turnWrites {
		var pieces [2][]byte
		if pieces[1] = req.Body; int(c.sent) < len(head) {
			pieces[0] = head[c.sent:]
		} else {
			pieces[1] = req.Body[int(c.sent)-len(head):]
		}
		n, err := loop.Sendv(c.source.FD(), pieces[:])
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			// The upstream does not read on. It may have said why: what there is to read decides, and after this error
			// something is, be it the end.
			c.want(false)
			c.to(stateAwaiting)
			return
		}
		if c.sent += int32(n); int(c.sent) == total {
			c.want(false)
			c.to(stateAwaiting)
			return
		}
		if err != nil {
			break
		}
	}
	c.want(true)
}

// want asks for or leaves write readiness. One that has left epoll by a hangup gives ENOENT: the hangup is on its way.
func (c *conn) want(write bool) {
	if err := c.source.Want(write); err != nil && !errors.Is(err, unix.ENOENT) {
		panic(err)
	}
}

func (c *conn) Writable() {
	switch c.state {
	case stateConnecting:
		c.connected()
	case stateSending:
		c.send()
	}
}

func (c *conn) Readable() {
	switch c.state {
	case stateConnecting:
		c.connected()
	case stateIdle: // its end; or bytes that nobody asked for
		c.close()
	default:
		c.read()
	}
}

// Hangup: epoll has let go of the descriptor, though Readable has not read to the end. What is unread is the end of the
// response, and nobody else will tell of it: read on here, and let a fresh attachment tell of what is left after that.
func (c *conn) Hangup() {
	switch c.state {
	case stateConnecting:
		c.connected()
		if c.state == stateSending || c.state == stateAwaiting {
			c.broken(errHangup)
		}
	case stateIdle, stateTail:
		c.close()
	default:
		if !c.read() {
			c.broken(errHangup)
		} else if c.source.Attached() {
			c.spare = c.source.Detach()
			c.attach()
		}
	}
}

// Failed: a callback panicked, ours or the receiver's; the loop has retired the descriptor.
func (c *conn) Failed(err error) {
	if c.state != stateClosed {
		c.fail(fmt.Errorf("%w: %w", upstream.ErrPanic, err))
	}
}

var (
	errHangup = errors.New("hangup")
	errEarly  = errors.New("end of the connection within a response")
)

// read takes what one recv gives: what is left is reported again, and in between the receiver's own client may have
// paused the call. false: there was nothing.
func (c *conn) read() bool {
	n, err := loop.Recv(c.source.FD(), c.sh.buf[:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case err != nil:
		c.broken(err)
	case n == 0:
		c.eof()
	default:
		c.take(c.sh.buf[:n])
	}
	return true
}

// take reads received bytes. They may complete the head, hold a whole response, or be one byte.
func (c *conn) take(b []byte) {
	c.answered = true
	for len(b) > 0 {
		switch c.state {
		case stateSending, stateAwaiting:
			b = c.takeHead(b)
		case stateReading, statePaused, stateTail: // paused: what was read already still goes out
			b = c.takeBody(b)
		default: // a callback has ended it
			return
		}
	}
}

// takeHead reads b up to the end of the response's head and gives what follows it.
func (c *conn) takeHead(b []byte) []byte {
	if c.held != nil {
		c.held = append(c.held, b...)
		b = c.held
	}
	n := headEnd(b, int(c.seen))
	if n > headBytesMax || n == 0 && len(b) >= headBytesMax {
		c.fail(protocolError("head too large"))
		return nil
	}
	if n == 0 {
		if !beginsHead(b) { // no line end may ever come
			c.fail(protocolError("status line"))
			return nil
		}
		if c.held == nil {
			c.held = append(c.held, b...)
		}
		c.seen = int32(len(b))
		return nil
	}
	c.held, c.seen = nil, 0
	h, err := parseHead(b[:n])
	if err != nil {
		c.fail(err)
		return nil
	}
	if h.Status >= 200 {
		return c.answer(&h, b[n:])
	}
	return b[n:] // an interim response; the final one follows
}

// answer begins the response proper.
func (c *conn) answer(h *head, rest []byte) []byte {
	c.keepAlive = h.keepAlive && c.state == stateAwaiting // answered before it was all sent: the rest of it would be next
	c.want(false)
	c.body = newBody(h)
	c.to(stateReading)
	call := c.call
	call.req = nil
	call.to.Head(h.Head)
	if c.call != nil && c.call.paused {
		c.pause()
	}
	if c.inBody() && c.body.done() {
		c.finish(rest)
		return nil
	}
	return rest
}

func (c *conn) inBody() bool {
	return c.state == stateReading || c.state == statePaused || c.state == stateTail
}

// takeBody reads b up to the end of the next piece of the body and gives what follows it.
func (c *conn) takeBody(b []byte) []byte {
	data, rest, err := c.body.next(b)
	if err != nil {
		c.fail(err)
		return nil
	}
	if len(data) > 0 {
		c.deliver(data)
	}
	if c.inBody() && c.body.done() {
		c.finish(rest)
		return nil
	}
	return rest
}

func (c *conn) deliver(data []byte) {
	c.sh.counts.bytesIn.Add(uint64(len(data)))
	if c.state == stateTail {
		if c.tailLeft -= int32(len(data)); c.tailLeft < 0 {
			c.close()
		}
		return
	}
	c.call.to.Body(data)
}

// finish: the response is complete. The connection is ready for another call before the receiver hears of it, who may
// start one.
func (c *conn) finish(rest []byte) {
	call := c.call
	c.call = nil
	if len(rest) > 0 { // bytes that nobody asked for: what they would answer is unknown
		c.keepAlive = false
	}
	if c.keepAlive {
		c.sh.keep(c)
	} else {
		c.close()
	}
	if call == nil {
		return
	}
	if to := call.over(); to != nil {
		to.End()
	}
}

// eof: the upstream has closed its side.
func (c *conn) eof() {
	if c.inBody() && c.body.at == atClose {
		c.keepAlive = false
		c.finish(nil)
		return
	}
	c.broken(errEarly)
}

// broken ends a connection that failed. A call that went out on a used connection, which the upstream may have closed
// before it saw the request, is sent once more on a new one, which has no such excuse, unless anything of a response has come.
func (c *conn) broken(cause error) {
	call := c.call
	if call == nil || !c.reused || c.answered {
		c.fail(fmt.Errorf("%w: %w", upstream.ErrBroken, cause))
		return
	}
	c.close()
	c.sh.counts.retried.Add(1)
	if !call.failLater(c.sh.closedError()) {
		c.sh.dial(call)
	}
}

// fail ends the connection and its call.
func (c *conn) fail(err error) {
	call := c.call
	c.close()
	if call != nil {
		call.fail(err)
	}
}

// failLater is fail where the receiver must not be called back from.
func (c *conn) failLater(err error) {
	call := c.call
	c.close()
	if call != nil {
		call.failLater(err)
	}
}

// close ends the connection and lets go of its call, which the caller sees to. Twice is safe.
func (c *conn) close() {
	if c.state == stateClosed {
		return
	}
	c.to(stateClosed)
	c.source.Retire()
	_ = c.spare.Close() // not in epoll: no readiness of this batch can mean it
	c.held, c.addrs = nil, nil
	if c.call != nil {
		c.call.conn = nil
		c.call = nil
	}
}

// pause leaves epoll: its read interest cannot be turned off. Before the body there is nothing to pause, and answer
// looks again.
func (c *conn) pause() {
	if c.state == stateReading {
		c.spare = c.source.Detach()
		c.to(statePaused)
	}
}

// resume comes back with a fresh attachment: what came meanwhile, the end included, is reported to it.
func (c *conn) resume() {
	if c.state == statePaused {
		c.to(stateReading)
		c.attach()
	}
}

// release drops the rest of the response, if it is worth it: a connection that cannot be used again is closed.
func (c *conn) release() {
	c.call = nil
	if !c.keepAlive || !c.inBody() {
		c.close()
		return
	}
	attached := c.state != statePaused
	c.to(stateTail)
	c.tailLeft = tailBytes
	if !attached {
		c.attach()
	}
}
