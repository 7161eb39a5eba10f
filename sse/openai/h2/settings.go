package h2

import (
	"errors"

	"golang.org/x/net/http2"
)

func (c *conn) takePing(f *http2.PingFrame) (err error) {
	c.with(func() {
		if !f.IsAck() {
			_ = c.fr.WritePing(true, f.Data)
			err = c.answered()
		}
	})
	return err
}

// answered sends an answer that the server has asked for; there is a bound to what it may ask without reading. mu is
// held.
func (c *conn) answered() error {
	c.kick()
	if len(c.out.b) > outMax {
		return wireError{http2.ErrCodeEnhanceYourCalm, "asks and does not read"}
	}
	return nil
}

// takeSettings applies what the server sets (RFC 9113, section 6.5).
func (c *conn) takeSettings(f *http2.SettingsFrame) (err error) {
	if f.IsAck() {
		return nil
	}
	c.with(func() {
		if err = f.ForeachSetting(c.set); err == nil {
			c.freed = true // the limit may have grown
			_ = c.fr.WriteSettingsAck()
			err = c.answered()
		}
	})
	return err
}

// set applies one setting. mu is held.
func (c *conn) set(s http2.Setting) error {
	var code http2.ConnectionError
	if errors.As(s.Valid(), &code) {
		return wireError{http2.ErrCode(code), "setting " + s.ID.String()}
	}
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		c.limit = min(s.Val, streamsMax)
	case http2.SettingMaxHeaderListSize:
		c.listMax = s.Val
	case http2.SettingHeaderTableSize:
		c.enc.SetMaxDynamicTableSizeLimit(s.Val)
	case http2.SettingInitialWindowSize:
		change := int64(s.Val) - int64(c.sendInitial)
		c.sendInitial = int32(s.Val)
		for _, cl := range c.streams {
			if !c.widen(cl, change) {
				return wireError{http2.ErrCodeFlowControl, "a window beyond 2^31-1"}
			}
		}
	}
	return nil // MAX_FRAME_SIZE allows more than we ever send
}

// widen changes the window of a request's body, by less than nothing too. false: it is too large now. mu is held.
func (c *conn) widen(cl *call, change int64) bool {
	cl.sendWindow += change
	if cl.parked && cl.sendWindow > 0 && cl.req != nil && cl.sent < len(cl.req.Body) {
		c.queueBody(cl)
		c.kick()
	} else if !cl.parked && cl.sendWindow <= 0 {
		c.sending = remove(c.sending, cl)
		cl.parked = true
	}
	return cl.sendWindow <= streamIDMax
}

func (c *conn) takeWindow(f *http2.WindowUpdateFrame) (err error) {
	if f.StreamID == 0 {
		c.with(func() {
			if c.sendWindow += int64(f.Increment); c.sendWindow > streamIDMax {
				err = wireError{http2.ErrCodeFlowControl, "a window beyond 2^31-1"}
			}
			if len(c.sending) > 0 {
				c.kick()
			}
		})
		return err
	}
	tooLarge := false
	c.with(func() {
		var cl *call
		if cl, err = c.lookup(f.StreamID); cl != nil {
			tooLarge = !c.widen(cl, int64(f.Increment))
		}
	})
	if tooLarge {
		return c.failStream(f.StreamID, http2.ErrCodeFlowControl, protocolError("a window beyond 2^31-1"))
	}
	return err
}
