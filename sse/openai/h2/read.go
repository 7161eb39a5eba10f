package h2

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"golang.org/x/net/http2"

	"streaming-daemon-go/sse/openai/upstream"
)

// read is the reader: it takes frames until the connection ends, and then sees to the calls that are left.
func (c *conn) read() {
	c.end(c.takeFrames())
}

// takeFrames gives why there are no more: a wireError, or what Read said. A panic of ours costs this connection only.
func (c *conn) takeFrames() (err error) {
	defer func() {
		if v := recover(); v != nil {
			slog.Error("panic in a connection's reader", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", upstream.ErrPanic, v)
		}
	}()
	for err == nil {
		if !c.buffered() { // the next read may block, and what has come must not wait for it
			c.mail.flush()
			c.heardAt.Store(int64(c.t.clock()))
		}
		err = c.takeFrame()
	}
	return err
}

// buffered reports whether the next frame is there as a whole.
func (c *conn) buffered() bool {
	const headBytes = 9 // RFC 9113, section 4.1
	n := c.br.Buffered()
	if n < headBytes {
		return false
	}
	h, _ := c.br.Peek(3)
	return n >= headBytes+(int(h[0])<<16|int(h[1])<<8|int(h[2]))
}

func (c *conn) takeFrame() error {
	h, err := c.in.ReadFrameHeader()
	var f http2.Frame
	if err == nil {
		f, err = c.in.ReadFrameForHeader(h)
	}
	if err != nil {
		return c.frameError(h, err)
	}
	c.frames.Add(1)
	switch f := f.(type) {
	case *http2.DataFrame:
		return c.takeData(f)
	case *http2.HeadersFrame:
		c.block.begin(f.StreamID, f.StreamEnded())
		return c.takeFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.ContinuationFrame:
		return c.takeFragment(f.HeaderBlockFragment(), f.HeadersEnded())
	case *http2.RSTStreamFrame:
		return c.takeReset(f)
	case *http2.SettingsFrame:
		return c.takeSettings(f)
	case *http2.WindowUpdateFrame:
		return c.takeWindow(f)
	case *http2.PingFrame:
		return c.takePing(f)
	case *http2.GoAwayFrame:
		return c.takeGoAway(f)
	case *http2.PushPromiseFrame:
		return wireError{http2.ErrCodeProtocol, "a push, which is turned off"}
	}
	return nil // what we do not know is to be ignored (RFC 9113, section 5.5)
}

// wireError is a connection error (RFC 9113, section 5.4.1). It wraps ErrProtocol.
type wireError struct {
	code http2.ErrCode
	what string
}

func (e wireError) Error() string { return fmt.Sprintf("%v: %s", upstream.ErrProtocol, e.what) }
func (e wireError) Unwrap() error { return upstream.ErrProtocol }

// frameError judges what the framer says. An error that concerns one stream resets that one, unless its frame was part
// of the compression's state.
func (c *conn) frameError(h http2.FrameHeader, err error) error {
	var stream http2.StreamError
	var whole http2.ConnectionError
	switch {
	case errors.As(err, &stream) && h.Type != http2.FrameHeaders:
		c.frames.Add(1)
		return c.failStream(stream.StreamID, stream.Code, protocolError("frame "+h.Type.String()))
	case errors.As(err, &stream):
		return wireError{stream.Code, "frame " + h.Type.String()}
	case errors.As(err, &whole):
		return wireError{http2.ErrCode(whole), "frame " + h.Type.String()}
	case errors.Is(err, http2.ErrFrameTooLarge):
		return wireError{http2.ErrCodeFrameSize, "frame too large"}
	}
	return err
}

// failStream ends a stream for an error of its own.
func (c *conn) failStream(id uint32, code http2.ErrCode, err error) error {
	var cl *call
	c.with(func() {
		if cl = c.streams[id]; cl != nil {
			c.reset(cl, code)
			cl.req = nil
		}
	})
	if cl != nil {
		c.mail.fail(cl, err)
	}
	return nil
}

// lookup finds a stream; nil with a nil error: one that is over, whose last frames were under way. mu is held.
func (c *conn) lookup(id uint32) (*call, error) {
	cl := c.streams[id]
	if cl == nil && (id%2 == 0 || id >= c.nextID) {
		return nil, wireError{http2.ErrCodeProtocol, "a frame of a stream that does not exist"}
	}
	return cl, nil
}

// takeData takes a piece of a body. The connection's window is opened again whatever becomes of it.
func (c *conn) takeData(f *http2.DataFrame) (err error) {
	n := int32(f.Length) // padding counts (RFC 9113, section 6.1); at most frameMax
	if c.window -= n; c.window < 0 {
		return wireError{http2.ErrCodeFlowControl, "more than the connection's window"}
	}
	data := f.Data()
	var cl *call
	var fault error
	c.with(func() {
		if c.window <= connWindow/2 {
			_ = c.fr.WriteWindowUpdate(0, uint32(connWindow-c.window))
			c.window = connWindow
			c.kick()
		}
		if cl, err = c.lookup(f.StreamID); cl == nil {
			return
		}
		cl.recvWindow -= n
		code := http2.ErrCodeProtocol
		switch {
		case cl.recvWindow < 0:
			code, fault = http2.ErrCodeFlowControl, protocolError("more than the stream's window")
		case !cl.heard:
			fault = protocolError("a body before its head")
		case cl.length >= 0 && int64(len(data)) > cl.length, cl.length > 0 && f.StreamEnded() && int64(len(data)) < cl.length:
			fault = protocolError("not as long as declared")
		}
		if fault != nil {
			c.reset(cl, code)
			cl.req = nil
			return
		}
		if cl.length >= 0 {
			cl.length -= int64(len(data))
		}
		if f.StreamEnded() {
			c.finish(cl)
		}
	})
	switch {
	case cl == nil:
	case fault != nil:
		c.mail.fail(cl, fault)
	default:
		if n > 0 {
			c.mail.body(cl, data, n)
		}
		if f.StreamEnded() {
			c.mail.ended(cl)
		}
	}
	return err
}

// finish ends a stream whose response is complete. A request that was answered before it was sent goes no further. mu is
// held.
func (c *conn) finish(cl *call) {
	if cl.req != nil && cl.sent < len(cl.req.Body) {
		c.reset(cl, http2.ErrCodeNo)
	} else {
		c.forget(cl)
	}
	cl.req = nil
}

// takeFragment takes a piece of a header block.
func (c *conn) takeFragment(fragment []byte, last bool) error {
	b := &c.block
	b.fragments++
	if b.bytes += len(fragment); b.bytes > blockMax || b.fragments > fragmentsMax {
		return wireError{http2.ErrCodeEnhanceYourCalm, "a header block without end"}
	}
	_, err := b.dec.Write(fragment)
	if err == nil && last {
		err = b.dec.Close()
	}
	if err != nil {
		return wireError{http2.ErrCodeCompression, "header compression"}
	}
	if last {
		return c.takeBlock()
	}
	return nil
}

// takeBlock takes a whole header block: an interim head, the head, or the trailers.
func (c *conn) takeBlock() (err error) {
	b := &c.block
	var cl *call
	var fault error
	trailers := false
	c.with(func() {
		if cl, err = c.lookup(b.id); cl == nil {
			return
		}
		if trailers = cl.heard; trailers {
			fault = b.trailers()
		} else {
			fault = b.head()
		}
		if fault == nil && !trailers && b.status >= 200 {
			cl.heard, cl.length = true, b.length
			if cl.sent == len(cl.req.Body) {
				cl.req = nil
			}
		}
		if fault == nil && b.end && cl.length > 0 {
			fault = protocolError("not as long as declared")
		}
		switch {
		case fault != nil:
			c.reset(cl, http2.ErrCodeProtocol)
			cl.req = nil
		case b.end:
			c.finish(cl)
		}
	})
	switch {
	case cl == nil:
		return err
	case fault != nil:
		c.mail.fail(cl, fault)
		return nil
	case !trailers && b.status >= 200:
		c.mail.head(cl, &upstream.Head{Status: b.status, ContentType: b.contentType, RetryAfter: b.retryAfter})
	}
	if b.end {
		c.mail.ended(cl)
	}
	return nil
}
