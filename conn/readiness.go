package conn

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// handler adapts a Conn to loop.Handler, so that readiness is not part of Conn's own API.
type handler Conn

// Readable reads and drops what the client sent after the handoff: what is not read would be reported for ever. The
// end of the stream found here is the hangup (P-14); one that the budget keeps us from finding comes as Hangup.
func (h *handler) Readable() {
	c := (*Conn)(h)
	sh := c.shard
	for range turnReads {
		n, err := sh.cfg.Kernel.Recv(c.source.FD(), sh.drop[:])
		switch {
		case err == nil && n > 0:
			c.dropped += uint32(n)
			if limit := c.inputMax(); int64(c.dropped) > int64(limit) {
				c.fail(ErrInput)
				return
			}
		case err == nil, errors.Is(err, unix.ECONNRESET):
			c.fail(ErrHangup)
			return
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.ETIMEDOUT): // TCP_USER_TIMEOUT: sent bytes were not acknowledged
			c.fail(ErrWriteTimeout)
			return
		default:
			c.fail(fmt.Errorf("conn: recv: %w", err))
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
	if c.out != nil {
		if !c.write() {
			return
		}
	}
	switch {
	case c.state == stateFlushing:
		if c.Pending() == 0 {
			c.linger()
			return
		}
		c.settle()
	case c.state == statePaused && c.Pending() <= c.shard.cfg.Low:
		if c.out != nil {
			c.settle()
		} else {
			c.want(false)
		}
		c.to(stateOpen)
		c.owner.Resumed()
	case c.out != nil:
		c.settle()
	default:
		c.want(false)
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
