package h2

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"streaming-daemon-go/sse/openai/upstream"
)

// kick sees to it that what is to be written will be. mu is held.
//
// The writer is a goroutine for as long as it has something to write: a connection whose calls only listen, which is
// what nearly all do at nearly all times, costs none, and no stack.
func (c *conn) kick() {
	if !c.writing {
		c.writing = true
		c.t.running.Go(c.write)
	}
}

// write writes until there is nothing left.
func (c *conn) write() {
	for {
		b, wait := c.next()
		if b == nil {
			return
		}
		_ = c.raw.SetWriteDeadline(time.Now().Add(wait))
		_, err := c.nc.Write(b)
		if err == nil {
			err = c.raw.Drain()
		}
		if err != nil {
			c.abort(fmt.Errorf("%w: %w", upstream.ErrBroken, err))
		}
		c.recycle(b)
	}
}

// next gives what to write now, and how long that may take. nil: nothing, the writer ends.
func (c *conn) next() (b []byte, wait time.Duration) {
	var bye bool
	c.with(func() {
		wait = writeWait
		if c.state == stateClosed {
			wait = byeWait
		} else {
			c.fill()
		}
		switch {
		case c.state == stateClosed && !c.bye:
		case len(c.out.b) > 0:
			b, c.out.b, c.spare = c.out.b, c.spare[:0], nil
			return
		case c.raw.Kept(): // of TLS itself
			b = []byte{}
			return
		}
		c.writing = false
		bye, c.bye = c.bye, false
	})
	if bye { // under no lock: TLS takes its leave with a write of its own
		_ = c.nc.Close()
	}
	return b, wait
}

// recycle keeps a buffer for the next turn, unless it has grown.
func (c *conn) recycle(b []byte) {
	if cap(b) > outKept {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spare = b[:0]
}

// fill adds requests to what is to be written, a turn's worth. mu is held.
func (c *conn) fill() {
	for len(c.opening) > 0 && len(c.out.b) < outTurn && len(c.streams) < int(c.limit) { // the limit may have been lowered
		cl := c.opening[0]
		c.opening[0] = nil
		c.opening = c.opening[1:]
		c.open(cl)
	}
	for len(c.sending) > 0 && len(c.out.b) < outTurn && c.sendWindow > 0 {
		cl := c.sending[0]
		c.sending[0] = nil
		c.sending = c.sending[1:]
		c.sendBody(cl)
	}
}

// open sends the head of cl's request, which makes it a stream. mu is held.
func (c *conn) open(cl *call) {
	end := len(cl.req.Body) == 0
	if size := c.encode(cl.req); size > c.listMax {
		cl.req = nil
		c.less(1)
		cl.failLater(fmt.Errorf("%w: a head of %d bytes, the server takes %d", upstream.ErrRefused, size, c.listMax))
		return
	}
	cl.id = c.nextID
	c.nextID += 2
	c.streams[cl.id] = cl
	cl.sends++
	cl.sent, cl.length, cl.heard, cl.parked = 0, -1, false, false
	cl.sentAfter = c.frames.Load()
	cl.sendWindow, cl.recvWindow = int64(c.sendInitial), c.t.cfg.StreamWindow

	block := c.fields.b
	n := min(len(block), frameMax)
	_ = c.fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: cl.id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block),
	})
	for block = block[n:]; len(block) > 0; block = block[n:] {
		n = min(len(block), frameMax)
		_ = c.fr.WriteContinuation(cl.id, n == len(block), block[:n])
	}
	c.queueBody(cl)
}

// queueBody puts cl where its body is sent from. mu is held.
func (c *conn) queueBody(cl *call) {
	switch {
	case cl.sent == len(cl.req.Body):
		cl.parked = true // for ever: there is nothing left
		if cl.heard {
			cl.req = nil
		}
	case cl.sendWindow <= 0:
		cl.parked = true
	default:
		cl.parked = false
		c.sending = append(c.sending, cl)
	}
}

// sendBody sends one frame of cl's body: those that have one take turns. mu is held.
func (c *conn) sendBody(cl *call) {
	rest := cl.req.Body[cl.sent:]
	n := int(min(int64(len(rest)), frameMax, cl.sendWindow, c.sendWindow))
	_ = c.fr.WriteData(cl.id, n == len(rest), rest[:n])
	cl.sent += n
	cl.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	c.queueBody(cl)
}

// fieldOverhead is what a field counts for in a header list beyond its characters (RFC 9113, section 6.5.2).
const fieldOverhead = 32

// encode puts a request's head into c.fields and gives its size as a header list. One that is larger than the server
// takes is measured and not encoded: it would change the table that both sides keep. mu is held.
func (c *conn) encode(req *upstream.Request) (size uint32) {
	each := func(f func(name, value string, secret bool)) {
		f(":method", "POST", false)
		f(":scheme", c.t.scheme, false)
		f(":authority", c.t.authority, false)
		f(":path", req.Path, false)
		f("accept-encoding", "identity", false)
		f("content-length", strconv.Itoa(len(req.Body)), false)
		for i := range req.Fields {
			if name := strings.ToLower(req.Fields[i].Name); !hopByHop(name) {
				f(name, req.Fields[i].Value, req.Fields[i].Secret)
			}
		}
	}
	each(func(name, value string, _ bool) { size += uint32(len(name) + len(value) + fieldOverhead) })
	c.fields.b = c.fields.b[:0]
	if size > c.listMax {
		return size
	}
	each(func(name, value string, secret bool) {
		_ = c.enc.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: secret})
	})
	return size
}

// hopByHop: HTTP/2 has no place for it (RFC 9113, section 8.2.2), or it is said otherwise.
func hopByHop(name string) bool {
	switch name {
	case "connection", "host", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "content-length", "accept-encoding":
		return true
	}
	return false
}
