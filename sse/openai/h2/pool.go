package h2

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"time"

	"streaming-daemon-go/sse/openai/dial"
	"streaming-daemon-go/sse/openai/upstream"
)

// wait puts c among the calls that wait for a connection. t.mu is held.
func (t *Transport) wait(c *call) {
	c.conn = nil
	t.waiting.push(c)
	t.waitingNow.Store(int64(t.waiting.len))
}

// unwait takes c, which waits, out of them. t.mu is held.
func (t *Transport) unwait(c *call) {
	t.waiting.remove(c)
	t.waitingNow.Store(int64(t.waiting.len))
}

// place gives waiting calls to connections with room, and dials for the rest. t.mu is held.
func (t *Transport) place() {
	for c := t.waiting.first; c != nil && t.seat(c); c = t.waiting.first {
	}
	t.dial()
}

// seat gives the first waiting call a connection, if one has room. t.mu is held.
func (t *Transport) seat(c *call) bool {
	for _, cn := range t.conns {
		if cn.accept(c) {
			t.unwait(c)
			c.conn = cn
			if cn.opened <= c.began {
				t.reused.Add(1)
			}
			return true
		}
	}
	return false
}

// dial begins as many connections as the waiting calls need. The first one goes ahead alone: it brings word of how many
// calls fit on one. t.mu is held.
func (t *Transport) dial() {
	need := min(t.waiting.len, 1)
	if t.perConn > 0 {
		need = (t.waiting.len + t.perConn - 1) / t.perConn
	}
	if len(t.conns) > 0 && t.clock() < t.dialAfter {
		need = 0 // the keeper looks again
	}
	for t.dialing < min(need, dialsMax) && t.dialing+len(t.conns) < t.cfg.ConnsMax && !t.closed {
		t.dialing++
		t.dials.Add(1)
		t.running.Go(t.connect)
		t.keeper.wake()
	}
}

// freed is called without locks when a connection may have room again.
func (t *Transport) freed() {
	if t.waitingNow.Load() == 0 { // who waits from now on looks at the room itself, after it has counted itself
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.place()
}

// connect makes a connection and moves it to a loop.
func (t *Transport) connect() {
	c, err := t.open()
	t.mu.Lock()
	t.dialing--
	switch {
	case err == nil && !t.closed:
		c.opened = t.clock()
		c.sh = t.shards[len(t.conns)%len(t.shards)]
		t.conns = append(t.conns, c)
		t.learn(c)
	case errors.Is(err, errNoH2) && t.cfg.Fallback != nil && !t.closed:
		t.fallBack()
	case err != nil && len(t.conns) == 0 && t.dialing == 0:
		t.failWaiting(err)
	case err != nil:
		t.dialAfter = t.clock() + dialPause
	}
	closed := t.closed
	t.place()
	t.mu.Unlock()
	switch {
	case err != nil:
	case closed:
		_ = c.raw.Close()
		c.drop()
	default:
		c.moveToLoop()
	}
}

// errNoH2: the server chose another protocol.
var errNoH2 = fmt.Errorf("%w: the server does not offer HTTP/2", upstream.ErrTLS)

// open dials and exchanges the first frames.
func (t *Transport) open() (*conn, error) {
	deadline := time.Now().Add(t.cfg.ConnectTimeout)
	ctx, cancel := context.WithDeadline(t.ctx, deadline)
	defer cancel()
	protocols := []string{"h2"}
	if t.cfg.Fallback != nil {
		protocols = append(protocols, "http/1.1")
	}
	nc, err := t.dialer.Dial(ctx, protocols...)
	if err != nil {
		return nil, err
	}
	raw := dial.Bottom(nc)
	defer context.AfterFunc(t.ctx, func() { _ = raw.Close() })()
	if secure, ok := nc.(*tls.Conn); ok && secure.ConnectionState().NegotiatedProtocol != "h2" {
		_ = raw.Close()
		return nil, errNoH2
	}
	c := newConn(t, nc, raw)
	if err := c.greet(deadline); err != nil {
		_ = raw.Close()
		c.drop()
		return nil, err
	}
	return c, nil
}

// learn remembers how many calls c takes. t.mu is held.
func (t *Transport) learn(c *conn) { t.perConn = max(1, int(c.limitNow())) }

// gone takes a connection that has ended out of the pool.
func (t *Transport) gone(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.conns, c); i >= 0 {
		t.conns = slices.Delete(t.conns, i, i+1)
	}
	t.place()
}

// again lets c, which its connection has not served, wait for another one. false: the transport is closed.
func (t *Transport) again(c *call) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return false
	case c.given: // nobody wants it any more
		c.req = nil
	default:
		t.wait(c)
		t.place()
	}
	return true
}

// abandon sees to it that nothing more is done for c, which is over for its loop. Its loop's goroutine.
func (t *Transport) abandon(c *call) {
	if cn := t.leave(c); cn != nil {
		cn.cancel(c)
	}
}

// leave ends c's wait, or gives the connection that has it. A connection that gives it up at this moment finds it given.
func (t *Transport) leave(c *call) *conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.given = true
	if c.queued {
		t.unwait(c)
		c.req = nil
	}
	return c.conn
}

// failWaiting ends the calls that wait. t.mu is held.
func (t *Transport) failWaiting(err error) {
	mail := newMail(t, nil)
	for c := t.waiting.first; c != nil; c = t.waiting.first {
		t.unwait(c)
		c.req = nil
		mail.fail(c, err)
	}
	mail.flush()
}

// fallBack hands the calls that wait to HTTP/1.1. t.mu is held.
func (t *Transport) fallBack() {
	t.fallbackUntil = t.clock() + fallbackFor
	for c := t.waiting.first; c != nil; c = t.waiting.first {
		t.unwait(c)
		req := c.req
		c.req = nil
		_ = c.sh.loop.Post(func() { c.fallBack(req) }) // ErrClosed: nobody is left to be told
	}
}
