package h2

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"

	"golang.org/x/net/http2"

	"streaming-daemon-go/sse/openai/dial"
	"streaming-daemon-go/sse/openai/upstream"
)

// take readies the connection for a loop: reads and writes block no more. No other goroutine may know of it yet.
func (c *conn) take() (err error) {
	c.fd, err = c.raw.Take()
	return err
}

// moveToLoop gives the connection, taken before, to a loop, which reads it from then on. It is the end of the dialling
// goroutine.
func (c *conn) moveToLoop() {
	c.t.running.Add(1) // until finish
	err := c.sh.loop.Post(func() {
		if err := c.source.Attach(c.sh.loop, c.fd, c); err != nil {
			c.drop()
			c.finish(err)
			return
		}
		c.pump() // the server's first bytes may have been read with its settings
	})
	if err != nil { // the loops have ended
		c.drop()
		c.end(upstream.ErrClosed)
		c.t.running.Done()
	}
}

// drop closes the descriptor of a connection that no loop has, if it was taken.
func (c *conn) drop() {
	c.raw.Forget()
	_ = c.fd.Close()
}

// Readable, Writable, Hangup and Failed make it a loop.Handler.
func (c *conn) Readable() { c.pump() }

// Writable is never asked for: writers wait on goroutines of their own.
func (c *conn) Writable() {}

// Hangup: there is an end, perhaps behind more bytes than one turn may read.
func (c *conn) Hangup() {
	c.hungUp = true
	c.pump()
}

// Failed: a callback panicked outside takeFrames (our bug); the loop has retired the source.
func (c *conn) Failed(err error) { c.finish(fmt.Errorf("%w: %w", upstream.ErrPanic, err)) }

// pump takes the frames that have come and tells those whom they are for. Loop goroutine only.
func (c *conn) pump() {
	if c.over {
		return
	}
	c.heardAt.Store(int64(c.t.clock()))
	more, err := c.takeFrames()
	switch {
	case err != nil:
		c.finish(err)
		return
	case more:
		_ = c.sh.loop.Post(c.pump) // ErrClosed: there is no next turn
	case c.hungUp:
		c.finish(io.ErrUnexpectedEOF)
		return
	}
	c.mail.deliver(c.sh.loop)
	if c.raw.Kept() { // TLS has answered something by itself, and the kernel did not take it
		c.with(c.kick)
	}
}

// finish ends a connection that is read no more. Loop goroutine only.
func (c *conn) finish(err error) {
	if c.over {
		return
	}
	c.over = true
	if errors.As(err, new(wireError)) && c.source.Attached() { // the writer has something to say
		c.raw.GiveBack(c.source.Detach())
	} else {
		c.raw.Forget()
		c.source.Retire()
	}
	c.end(err)
	c.t.running.Done()
}

// takeFrames takes what has come. It gives why no more will: a wireError, or what Read said; more says that the turn is
// over before what has come is. A panic of ours costs this connection only.
func (c *conn) takeFrames() (more bool, err error) {
	defer func() {
		if v := recover(); v != nil {
			slog.Error("panic in a connection's reader", "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: %v", upstream.ErrPanic, v)
		}
	}()
	for range readsTurn {
		for c.buffered() {
			if err := c.takeFrame(); err != nil {
				return false, err
			}
		}
		if _, err := c.br.Peek(c.br.Buffered() + 1); err != nil {
			if dial.WouldBlock(err) {
				return false, nil
			}
			return false, err
		}
	}
	return true, nil
}

// headBytes is the length of a frame's head (RFC 9113, section 4.1).
const headBytes = 9

// buffered reports whether the next frame is there as a whole, or is one that cannot be.
func (c *conn) buffered() bool {
	n := c.br.Buffered()
	if n < headBytes {
		return false
	}
	h, _ := c.br.Peek(3)
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	return n >= headBytes+length || length > frameMax
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
			c.complete(cl)
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

// complete ends a stream whose response is complete. A request that was answered before it was sent goes no further. mu is
// held.
func (c *conn) complete(cl *call) {
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
			c.complete(cl)
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
