package h2

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
)

// kind is what an item tells a receiver.
type kind uint8

const (
	kindHead kind = iota
	kindBody
	kindEnd
	kindFail
)

// item is one thing to be told to one call.
type item struct {
	c          *call
	head       *upstream.Head // of kindHead
	err        error          // of kindFail
	start, end int32          // of kindBody: its bytes in the batch's buf; none when a frame held padding alone
	flow       int32          // of kindBody: bytes of the window that it took, padding included
	kind       kind
}

// batch is what one turn of a connection has for the calls of one loop. It belongs to whoever reads frames until it is
// posted or run, to the calls' loop from then on.
type batch struct {
	from  *conn // nil when no connection has to do with it
	items []item
	buf   []byte
	next  int    // the first item that is not done
	post  func() // run, bound once
}

// batches are used again: at a steady rate, reading allocates nothing.
var batches sync.Pool

func newBatch(from *conn) *batch {
	b, _ := batches.Get().(*batch)
	if b == nil {
		b = new(batch)
		b.post = b.run
	}
	b.from = from
	return b
}

// keptBytes is how large a buffer may be and still be kept: one read's worth of small frames, rounded up.
const keptBytes = 2 * readBytes

// run tells everybody. It is posted. A panic in one receiver must not cost the others theirs, nor change their order, so
// it is recovered here.
func (b *batch) run() {
	for b.next < len(b.items) {
		b.some()
	}
	clear(b.items)
	b.from, b.items, b.buf, b.next = nil, b.items[:0], b.buf[:0], 0
	if cap(b.buf) <= keptBytes {
		batches.Put(b)
	}
}

// some tells until the end, or until a receiver panics: its call fails.
func (b *batch) some() {
	defer func() {
		if v := recover(); v != nil {
			b.items[b.next-1].c.panicked(v)
		}
	}()
	for b.next < len(b.items) {
		it := &b.items[b.next]
		b.next++
		it.c.hear(b, it)
	}
}

// hear passes an item on to the receiver, which may do anything to the call.
func (c *call) hear(b *batch, it *item) {
	if c.to == nil {
		return
	}
	switch it.kind {
	case kindHead:
		c.from = b.from
		c.to.Head(*it.head)
	case kindBody:
		c.credit += it.flow
		if it.end > it.start {
			c.sh.bytesIn.Add(uint64(it.end - it.start))
			c.to.Body(b.buf[it.start:it.end:it.end])
		}
		c.giveBack()
	case kindEnd:
		c.over().End()
	case kindFail:
		c.over().Fail(it.err)
	}
}

// panicked ends a call whose receiver has panicked.
func (c *call) panicked(v any) {
	slog.Error("panic in a callback", "panic", v, "stack", string(debug.Stack()))
	to := c.over()
	if to == nil {
		return // it panicked in its last callback
	}
	c.sh.t.abandon(c)
	defer func() {
		if v := recover(); v != nil {
			slog.Error("panic in a callback", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	to.Fail(fmt.Errorf("%w: %v", upstream.ErrPanic, v))
}

// mail collects what is to be told, by loop. Its owner is one goroutine.
type mail struct {
	t    *Transport // immutable
	from *conn      // immutable
	by   []*batch   // by loop index; nil: nothing for that loop
}

func newMail(t *Transport, from *conn) *mail {
	return &mail{t: t, from: from, by: make([]*batch, len(t.shards))}
}

// to gives the batch for c's loop.
func (m *mail) to(c *call) *batch {
	slot := &m.by[c.sh.loop.Index()]
	if *slot == nil {
		*slot = newBatch(m.from)
	}
	return *slot
}

func (m *mail) head(c *call, h *upstream.Head) {
	b := m.to(c)
	b.items = append(b.items, item{c: c, kind: kindHead, head: h})
}

// body copies data. Bytes that follow others of the same call are joined to them: the receiver hears of them once.
func (m *mail) body(c *call, data []byte, flow int32) {
	b := m.to(c)
	start := int32(len(b.buf))
	b.buf = append(b.buf, data...)
	end := int32(len(b.buf))
	if n := len(b.items); n > 0 && b.items[n-1].c == c && b.items[n-1].kind == kindBody && end-b.items[n-1].start <= windowMax {
		b.items[n-1].end = end
		b.items[n-1].flow += flow
		return
	}
	b.items = append(b.items, item{c: c, kind: kindBody, start: start, end: end, flow: flow})
}

func (m *mail) ended(c *call) {
	b := m.to(c)
	b.items = append(b.items, item{c: c, kind: kindEnd})
}

func (m *mail) fail(c *call, err error) {
	b := m.to(c)
	b.items = append(b.items, item{c: c, kind: kindFail, err: err})
}

// flush posts what was collected. A loop that is closed has nobody left to be told.
func (m *mail) flush() { m.deliver(nil) }

// deliver is flush for the loop here, whose calls are told at once. No lock may be held.
func (m *mail) deliver(here *loop.Loop) {
	for i, b := range m.by {
		if b == nil {
			continue
		}
		m.by[i] = nil
		if l := m.t.shards[i].loop; l == here {
			b.run()
		} else {
			_ = l.PostSoon(b.post)
		}
	}
}
