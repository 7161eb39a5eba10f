package h1tls

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
)

const (
	pieceBytes  = 16 << 10    // of one read: a TLS record holds no more (RFC 8446, 5.1)
	tailBytes   = 16 << 10    // bytes of a released response that are read for the connection's sake
	tailTimeout = time.Second // for them to come
)

// pieces are used again: one is held for as long as a call reads.
var pieces = sync.Pool{New: func() any { return new([pieceBytes]byte) }}

// call is one request and its response. It is an upstream.Call.
type call struct {
	t    *Transport // immutable
	loop *loop.Loop // immutable

	// owned by the loop
	to     upstream.Receiver // nil exactly when the call is over: nothing is heard of it any more
	paused bool
	owed   bool // the worker waits for go, and a pause holds it back

	req      *upstream.Request // owned by the worker
	ctx      context.Context   // ends with the call
	cancel   context.CancelFunc
	more     chan struct{} // of one: the worker may read the next piece
	released atomic.Bool   // the rest is to be dropped
}

func newCall(t *Transport, l *loop.Loop, req *upstream.Request, to upstream.Receiver) *call {
	c := &call{t: t, loop: l, to: to, req: req, more: make(chan struct{}, 1)}
	c.ctx, c.cancel = context.WithCancel(t.ctx)
	return c
}

// over ends the call's account and gives who is to be told. nil: it was over before. Loop goroutine only.
func (c *call) over() upstream.Receiver {
	to := c.to
	if to != nil {
		c.to = nil
		c.t.calls.Add(-1)
		if c.paused {
			c.t.paused.Add(-1)
		}
	}
	return to
}

func (c *call) fail(err error) {
	if to := c.over(); to != nil {
		c.cancel()
		to.Fail(err)
	}
}

// tell posts f. A loop that is closed has nobody left to be told: the call is cancelled.
func (c *call) tell(f func()) {
	if c.loop.Post(func() { defer c.recovered(); f() }) != nil {
		c.cancel()
	}
}

// recovered is deferred around each callback: a panic costs this call only.
func (c *call) recovered() {
	v := recover()
	if v == nil {
		return
	}
	slog.Error("panic in a callback", "panic", v, "stack", string(debug.Stack()))
	defer func() {
		if v := recover(); v != nil {
			slog.Error("panic in a callback", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	c.fail(fmt.Errorf("%w: %v", upstream.ErrPanic, v))
}

func (c *call) Pause() {
	if c.to != nil && !c.paused {
		c.paused = true
		c.t.paused.Add(1)
	}
}

func (c *call) Resume() {
	if c.to != nil && c.paused {
		c.paused = false
		c.t.paused.Add(-1)
		c.goOn()
	}
}

func (c *call) Release() {
	if c.over() != nil {
		c.released.Store(true)
		c.paused = false
		c.goOn()
		time.AfterFunc(tailTimeout, c.cancel)
	}
}

func (c *call) Cancel() {
	if c.over() != nil {
		c.cancel()
	}
}

// goOn lets the worker read, if it waits for that. Loop goroutine only.
func (c *call) goOn() {
	if c.owed && !c.paused {
		c.owed = false
		select {
		case c.more <- struct{}{}:
		default:
		}
	}
}

// carry makes the request and reads the response. It is the worker's, and blocks.
func (c *call) carry() {
	defer c.cancel()
	answer, err := c.ask()
	if err != nil {
		c.tell(func() { c.fail(err) })
		return
	}
	defer answer.Body.Close()
	if err := c.read(answer); err != nil {
		c.tell(func() { c.fail(err) })
	}
}

// ask sends the request and gives the response with its head read. A kept connection that turns out to be dead, with
// nothing heard of a response, costs a second attempt on a new one; there is no third.
func (c *call) ask() (*http.Response, error) {
	answer, stale, err := c.try()
	if stale && c.ctx.Err() == nil {
		c.t.retried.Add(1)
		c.t.client.CloseIdleConnections() // they are as old
		answer, _, err = c.try()
	}
	c.req = nil
	if err == nil {
		err = c.check(answer)
	}
	return answer, err
}

// try is one attempt. stale: it has failed in a way that allows another.
func (c *call) try() (answer *http.Response, stale bool, err error) {
	r, err := http.NewRequestWithContext(c.ctx, http.MethodPost, c.t.base+c.req.Path, bytes.NewReader(c.req.Body))
	if err != nil {
		return nil, false, fmt.Errorf("%w: request line", upstream.ErrProtocol)
	}
	for _, f := range c.req.Fields {
		r.Header.Add(f.Name, f.Value)
	}
	r.Header.Set("Accept-Encoding", "identity")
	var connected, reused, heard bool
	r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) {
			if connected, reused = true, i.Reused; reused {
				c.t.reused.Add(1)
			}
		},
		GotFirstResponseByte: func() { heard = true },
	}))
	answer, err = c.t.client.RoundTrip(r)
	switch {
	case err == nil:
		return answer, false, nil
	case c.t.ctx.Err() != nil:
		return nil, false, upstream.ErrClosed
	case known(err):
		return nil, false, err
	case !connected:
		return nil, false, upstream.ErrConnect
	}
	return nil, reused && !heard, brokenOr(err, heard)
}

// brokenOr says what went wrong on a connection, and not how: net/http's errors quote what came.
func brokenOr(err error, heard bool) error {
	var network net.Error
	if heard && !errors.As(err, &network) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: malformed", upstream.ErrProtocol)
	}
	return upstream.ErrBroken
}

// check refuses what the contract does not take, and closes it.
func (c *call) check(answer *http.Response) error {
	coding := answer.Header.Get("Content-Encoding")
	switch {
	case coding != "" && !strings.EqualFold(coding, "identity") && answer.ContentLength != 0:
	case answer.StatusCode < 200 || answer.StatusCode > 599:
	default:
		return nil
	}
	_ = answer.Body.Close()
	return fmt.Errorf("%w: content coding or status", upstream.ErrProtocol)
}

// read passes the response on.
func (c *call) read(answer *http.Response) error {
	h := upstream.Head{Status: answer.StatusCode}
	if v := answer.Header.Get("Content-Type"); v != "" {
		h.ContentType = []byte(v)
	}
	if v := answer.Header.Get("Retry-After"); v != "" {
		h.RetryAfter = []byte(v)
	}
	c.tell(func() {
		if c.to != nil {
			c.to.Head(h)
		}
	})
	buf := pieces.Get().(*[pieceBytes]byte)
	n, dropped := 0, 0
	var err error
	deliver := func() { c.deliver(buf[:n]) }
	for {
		n, err = answer.Body.Read(buf[:])
		switch {
		case n == 0:
		case c.released.Load():
			if dropped += n; dropped > tailBytes {
				return upstream.ErrBroken // nobody hears of it
			}
		default:
			c.tell(deliver)
			select {
			case <-c.more:
			case <-c.ctx.Done(): // the loop may still look at buf: it is left to the garbage collector
				return c.ended(c.ctx.Err())
			}
		}
		if err != nil {
			pieces.Put(buf)
			return c.ended(err)
		}
	}
}

// deliver hands a piece to the receiver. Posted. Only when the receiver has returned is b the worker's again, whatever
// it has called meanwhile.
func (c *call) deliver(b []byte) {
	defer func() {
		c.owed = true
		c.goOn()
	}()
	if c.to == nil {
		return
	}
	c.t.bytesIn.Add(uint64(len(b)))
	c.to.Body(b)
}

// ended tells of an end in order, or gives what broke it off.
func (c *call) ended(err error) error {
	switch {
	case c.t.ctx.Err() != nil: // whatever it says: a server that hears of the close may end its response in order
		return upstream.ErrClosed
	case errors.Is(err, io.EOF):
		c.tell(func() {
			if to := c.over(); to != nil {
				to.End()
			}
		})
		return nil
	}
	return brokenOr(err, true)
}

// known reports whether err says already what it is in upstream's terms.
func known(err error) bool {
	for _, e := range []error{upstream.ErrResolve, upstream.ErrConnect, upstream.ErrConnectTimeout, upstream.ErrTLS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
