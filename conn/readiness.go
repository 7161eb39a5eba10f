package conn

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// handler adapts a Conn to loop.Handler, so that readiness is not part of Conn's own API.
type handler Conn

// Readable reads and drops what the client sent after the handoff: what is not read would be reported for ever. The
// end of the stream found here is the hangup (P-14); one that turnReads keeps us from finding comes as Hangup. While
// lingering nothing may stay unread, or the close costs the client its tail: then LingerBytes alone is the bound.
func (h *handler) Readable() {
	c := (*Conn)(h)
	sh := c.shard
	for i := 0; i < turnReads || c.state == stateLingering; i++ {
		n, err := sh.cfg.Kernel.Recv(c.source.FD(), sh.drop[:])
		switch {
		case err == nil && n > 0:
			c.dropped += uint32(n)
			if limit := c.inputMax(); int64(c.dropped) > int64(limit) {
				c.Abort(ErrInput, c.state != stateLingering)
				return
			}
		case err == nil:
			c.fail(ErrHangup)
			return
		case errors.Is(err, unix.EAGAIN):
			return
		default:
			c.fail(causeOf("recv", err))
			return
		}
	}
}

// inputMax is how many bytes the client may send us in this state.
func (c *Conn) inputMax() int {
	if c.state == stateLingering {
		return c.shard.cfg.LingerBytes
	}
	return c.shard.cfg.InputMax
}

// Writable goes on with what waits, and resumes the owner at the low watermark.
func (h *handler) Writable() {
	c := (*Conn)(h)
	if c.out != nil && !c.write() {
		return
	}
	switch {
	case c.state == stateFlushing && c.Pending() == 0:
		c.linger()
	case c.state == statePaused && c.Pending() <= c.shard.cfg.Low:
		c.to(stateOpen)
		c.settle()
		c.owner.Resumed()
	default:
		c.settle()
	}
}

// Hangup: the socket failed or the client left, and Readable had no occasion to see it.
func (h *handler) Hangup() { (*Conn)(h).fail(ErrHangup) }

// Failed: a callback panicked; the loop has retired the descriptor.
func (h *handler) Failed(err error) {
	if c := (*Conn)(h); c.state != stateClosed {
		c.fail(fmt.Errorf("%w: %w", ErrPanic, err))
	}
}
