package h2

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/http2"

	"streaming-daemon-go/sse/openai/upstream"
)

// takeReset: the server ends a stream.
func (c *conn) takeReset(f *http2.RSTStreamFrame) (err error) {
	var cl *call
	c.with(func() {
		if cl, err = c.lookup(f.StreamID); cl != nil {
			c.forget(cl)
		}
	})
	switch {
	case cl == nil:
	case f.ErrCode == http2.ErrCodeRefusedStream && !cl.heard: // it has not looked at it (RFC 9113, section 8.7)
		c.resend(cl, fmt.Errorf("%w: REFUSED_STREAM", upstream.ErrRefused))
	case f.ErrCode == http2.ErrCodeHTTP11Required && !cl.heard:
		c.fail(cl, fmt.Errorf("%w: HTTP_1_1_REQUIRED", upstream.ErrRefused))
	default:
		c.fail(cl, fmt.Errorf("%w: RST_STREAM %v", upstream.ErrBroken, f.ErrCode))
	}
	return err
}

// fail tells a call, which c has forgotten, that it is over.
func (c *conn) fail(cl *call, err error) {
	cl.req = nil
	c.mail.fail(cl, err)
}

// resend lets a call that the server has not looked at go to another connection, or to this one again; the second time,
// it fails with err.
func (c *conn) resend(cl *call, err error) {
	if cl.sends >= 2 {
		c.fail(cl, err)
		return
	}
	c.t.retried.Add(1)
	if !c.t.again(cl) {
		c.fail(cl, upstream.ErrClosed)
	}
}

// move lets a call that was not sent go to another connection.
func (c *conn) move(cl *call, err error) {
	if cl.moves++; cl.moves > movesMax {
		c.fail(cl, err)
	} else if !c.t.again(cl) {
		c.fail(cl, upstream.ErrClosed)
	}
}

// takeGoAway: the server looks at no stream above the last one that it names, and takes no new ones. It may say so
// twice, first without a limit (RFC 9113, section 6.8).
func (c *conn) takeGoAway(f *http2.GoAwayFrame) error {
	var unseen, unsent []*call
	c.with(func() {
		c.lastID = min(c.lastID, f.LastStreamID)
		unsent, c.opening = c.opening, nil
		c.less(len(unsent))
		for id, cl := range c.streams {
			if id > c.lastID {
				unseen = append(unseen, cl)
			}
		}
		for _, cl := range unseen {
			c.forget(cl)
		}
		c.drain()
	})
	gone := fmt.Errorf("%w: GOAWAY %v", upstream.ErrRefused, f.ErrCode)
	for _, cl := range unsent {
		c.move(cl, gone)
	}
	for _, cl := range unseen {
		c.unseen(cl, gone)
	}
	return nil
}

// unseen deals with a call that the server says it has not looked at, and believes it.
func (c *conn) unseen(cl *call, err error) {
	if cl.heard {
		c.fail(cl, fmt.Errorf("%w: GOAWAY within a response", upstream.ErrBroken))
	} else {
		c.resend(cl, err)
	}
}

// end closes the connection for err and sees to its calls.
func (c *conn) end(err error) {
	var wire wireError
	polite := errors.As(err, &wire)
	var unsent, unseen, stale, lost []*call
	var cause error
	c.with(func() {
		switch {
		case c.state == stateClosed:
		case polite:
			c.close(wire.code, err)
		default:
			c.to(stateClosed)
		}
		cause = c.cause
		if cause == nil {
			cause = err
		}
		unsent, c.opening = c.opening, nil
		dead := !polite && !errors.Is(cause, errSilent) && !errors.Is(cause, upstream.ErrClosed)
		for id, cl := range c.streams {
			switch {
			case id > c.lastID:
				unseen = append(unseen, cl)
			case dead && !cl.heard && cl.began >= c.opened && cl.sentAfter == c.frames.Load():
				stale = append(stale, cl)
			default:
				lost = append(lost, cl)
			}
			cl.id, cl.parked = 0, false
		}
		c.streams, c.sending, c.released, c.used = nil, nil, nil, 0
		polite = polite || c.bye
	})
	if !polite {
		_ = c.raw.Close()
	}
	c.t.gone(c)
	if !known(cause) {
		cause = fmt.Errorf("%w: %w", upstream.ErrBroken, cause)
	}
	for _, cl := range unsent {
		c.move(cl, cause)
	}
	for _, cl := range unseen {
		c.unseen(cl, fmt.Errorf("%w: GOAWAY", upstream.ErrRefused))
	}
	for _, cl := range stale { // nothing has come since it was sent on a kept connection: that was dead already
		c.resend(cl, cause)
	}
	for _, cl := range lost {
		c.fail(cl, cause)
	}
	if c.over { // by its loop
		c.mail.deliver(c.sh.loop)
	} else {
		c.mail.flush()
	}
}

// known reports whether err says already what it is in upstream's terms.
func known(err error) bool {
	for _, e := range []error{upstream.ErrBroken, upstream.ErrProtocol, upstream.ErrClosed, upstream.ErrPanic} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// check is the keeper's look at a connection, at loop time now.
func (c *conn) check(now time.Duration) {
	var dead bool
	c.with(func() {
		if c.state == stateClosed {
			return
		}
		c.endReleased(now)
		if c.used == 0 {
			if c.pingAt = 0; now-c.idleSince >= c.t.cfg.IdleTimeout {
				c.close(http2.ErrCodeNo, nil)
			}
			return
		}
		heard := time.Duration(c.heardAt.Load())
		if heard > c.pingAt {
			c.pingAt = 0
		}
		switch {
		case c.pingAt != 0:
			dead = now-c.pingAt >= c.t.cfg.PingTimeout
		case now-heard >= c.t.cfg.PingIdle:
			c.pingAt = now
			_ = c.fr.WritePing(false, pingData)
			c.kick()
		}
	})
	if dead {
		c.abort(errSilent)
	}
}

// errSilent ends a connection whose server may well have seen what was sent, and may be at work on it.
var errSilent = fmt.Errorf("%w: no answer to a ping", upstream.ErrBroken)

// pingData: the answer repeats it; any frame is answer enough.
var pingData = [8]byte{'s', 't', 'r', 'e', 'a', 'm', 'i', 'n'}

// endReleased resets the streams whose rest was waited for long enough. mu is held.
func (c *conn) endReleased(now time.Duration) {
	for len(c.released) > 0 {
		cl := c.released[0]
		if c.has(cl) {
			if now-cl.released < releaseWait {
				return
			}
			c.reset(cl, http2.ErrCodeCancel)
			cl.req = nil
		}
		c.released[0] = nil
		c.released = c.released[1:]
	}
}
