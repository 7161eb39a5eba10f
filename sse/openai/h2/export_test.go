package h2

import (
	"net"

	"streaming-daemon-go/sse/openai/dial"
	"streaming-daemon-go/sse/openai/upstream"
)

// SkipStreams makes the next stream of every connection the last but n that ids allow.
func (t *Transport) SkipStreams(n uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.conns {
		c.mu.Lock()
		c.nextID = streamIDMax - 2*(n-1)
		c.mu.Unlock()
	}
}

// Attach makes nc a greeted connection of the transport.
func (t *Transport) Attach(nc net.Conn) error {
	raw := dial.NewSocket(nc)
	c := newConn(t, raw, raw)
	if err := c.take(); err != nil {
		return err
	}
	t.mu.Lock()
	c.sh = t.shards[0]
	t.conns = append(t.conns, c)
	t.place()
	t.mu.Unlock()
	c.moveToLoop()
	return nil
}

// DecodeHead reads a header block, cut into fragments, as a response's head. ok is false for what ends a connection.
func DecodeHead(fragments [][]byte, end bool) (h upstream.Head, ok bool, err error) {
	var b block
	b.init()
	b.begin(1, end)
	for _, f := range fragments {
		if _, err := b.dec.Write(f); err != nil {
			return h, false, err
		}
	}
	if err := b.dec.Close(); err != nil {
		return h, false, err
	}
	return upstream.Head{Status: b.status, ContentType: b.contentType, RetryAfter: b.retryAfter}, true, b.head()
}

// Forget takes a call from its connection, as when the server refuses it; Again goes on from there.
func (t *Transport) Forget(c upstream.Call) {
	cl := c.(*call)
	t.mu.Lock()
	cn := cl.conn
	t.mu.Unlock()
	cn.with(func() { cn.forget(cl) })
}

// Again sends a forgotten call again, if anybody wants it.
func (t *Transport) Again(c upstream.Call) bool { return t.again(c.(*call)) }
