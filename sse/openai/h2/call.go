package h2

import (
	"time"

	"streaming-daemon-go/sse/openai/upstream"
)

// call is one request and its response. It is an upstream.Call. It outlives a connection that does not serve it.
type call struct {
	sh    *shard        // immutable
	began time.Duration // immutable; loop clock

	// owned by the loop
	to     upstream.Receiver // nil exactly when the call is over: nothing is heard of it any more
	from   *conn             // whom the response comes from; nil before its head, and once over
	inner  upstream.Call     // not nil: Config.Fallback carries it
	credit int32             // bytes of the window that the receiver has taken and that were not given back
	paused bool

	// guarded by Transport.mu
	conn       *conn // nil while it waits
	prev, next *call // among those that wait
	queued     bool  // it waits
	given      bool  // given up: it is not to be placed again

	// guarded by the mu of the connection that has it, by Transport.mu while it waits
	req        *upstream.Request // nil once it is sent and the response's head has come, or once over
	length     int64             // of the body as declared, less what came; negative: not declared
	sentAfter  uint64            // frames that had come when it was sent
	released   time.Duration     // loop clock: the rest is dropped since then; 0: it is not
	id         uint32            // of its stream; 0: not sent
	sent       int               // bytes of the request's body
	sendWindow int64             // bytes that the server takes of it; below 0 after a change of its settings
	recvWindow int32             // bytes that it may send
	sends      uint8             // how often it was sent; twice at most
	moves      uint8             // how often it was moved without having been sent; movesMax at most
	heard      bool              // the response's head has come
	parked     bool              // body left, and sendWindow has no room for it
}

// over ends the call's account and gives who is to be told. nil: it was over before.
func (c *call) over() upstream.Receiver {
	to := c.to
	if to != nil {
		c.to, c.from = nil, nil
		c.sh.calls.Add(-1)
		if c.paused {
			c.paused = false
			c.sh.paused.Add(-1)
		}
	}
	return to
}

// failLater ends a call that no connection has, from any goroutine.
func (c *call) failLater(err error) {
	mail := newMail(c.sh.t, nil)
	mail.fail(c, err)
	mail.flush()
}

func (c *call) Pause() {
	switch {
	case c.inner != nil:
		c.inner.Pause()
	case c.to != nil && !c.paused:
		c.paused = true
		c.sh.paused.Add(1)
	}
}

func (c *call) Resume() {
	switch {
	case c.inner != nil:
		c.inner.Resume()
	case c.to != nil && c.paused:
		c.paused = false
		c.sh.paused.Add(-1)
		c.giveBack()
	}
}

func (c *call) Release() {
	if c.inner != nil {
		c.inner.Release()
		return
	}
	from := c.from
	switch {
	case c.over() == nil:
	case from == nil: // there is no response yet
		c.sh.t.abandon(c)
	default:
		from.release(c)
	}
}

func (c *call) Cancel() {
	if c.inner != nil {
		c.inner.Cancel()
		return
	}
	if c.over() != nil {
		c.sh.t.abandon(c)
	}
}

// giveBack opens the call's window again: by halves, since each time costs a frame. Loop goroutine only.
func (c *call) giveBack() {
	if n := c.credit; c.from != nil && !c.paused && n >= c.sh.t.cfg.StreamWindow/2 {
		c.credit = 0
		c.from.giveBack(c, n)
	}
}

// fallBack goes on over HTTP/1.1. Posted.
func (c *call) fallBack(req *upstream.Request) {
	paused := c.paused
	to := c.over()
	if to == nil {
		return
	}
	if c.inner = c.sh.t.cfg.Fallback.Start(c.sh.loop, req, to); paused {
		c.inner.Pause()
	}
}

// callList is a list of calls in the order in which they came. Its owner guards it.
type callList struct {
	first, last *call
	len         int
}

// push adds c, which is on no list, at the end.
func (l *callList) push(c *call) {
	c.prev, c.next, c.queued = l.last, nil, true
	if l.last != nil {
		l.last.next = c
	} else {
		l.first = c
	}
	l.last = c
	l.len++
}

// remove takes c, which is on the list, off it.
func (l *callList) remove(c *call) {
	if c.prev != nil {
		c.prev.next = c.next
	} else {
		l.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	} else {
		l.last = c.prev
	}
	c.prev, c.next, c.queued = nil, nil, false
	l.len--
}
