package mock

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"
)

// grid is what pauses end on. Timers that are due at the same instant cost one wake-up: at ten thousand events a second
// ten streams share one, which is no more than chance and a real network would put together.
const grid = time.Millisecond

// errCut ends a stream at the place that its script says.
var errCut = errors.New("mock: cut")

// player puts one reply on the wire.
type player struct {
	server *Server
	script *Script
	ctx    context.Context
	w      http.ResponseWriter
	flush  func() error
	sent   int64 // bytes of the body
	timer  *time.Timer
	due    time.Time // when the last pause ended, on schedule
}

// play answers with a stream. It does not return where the script has it end without an end: it panics with
// http.ErrAbortHandler, as net/http wants it.
func (s *Server) play(w http.ResponseWriter, r *http.Request, script *Script, c *chat) {
	ctx := r.Context()
	s.count.open.Add(1)
	defer s.count.open.Add(-1)
	noted := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() { s.count.cancel(script.Tag); close(noted) })
	p := player{server: s, script: script, ctx: ctx, w: w, flush: http.NewResponseController(w).Flush, due: time.Now()}
	err := p.all(c)
	cut := errors.Is(err, errCut)
	if cut {
		s.count.cut.Add(1)
	}
	if cut && script.Cut == CutStall {
		<-ctx.Done()
	}
	switch watched := unwatch(); {
	case !watched: // the client has gone
		<-noted // so that a stream that is not open any more has been counted
		panic(http.ErrAbortHandler)
	case ctx.Err() != nil, err != nil && !cut: // likewise, but we were faster than the context: Done comes before its func
		s.count.cancel(script.Tag)
		panic(http.ErrAbortHandler)
	case cut:
		p.accident(r)
	default:
		s.count.finished.Add(1)
	}
}

func (p *player) all(c *chat) error {
	if err := p.pause(time.Duration(p.script.Head)); err != nil {
		return err
	}
	p.head(c)
	if err := p.flush(); err != nil {
		return err
	}
	for b := range p.script.blocks(c) {
		if err := p.pause(b.pause); err != nil {
			return err
		}
		if err := p.write(b.bytes); err != nil {
			return err
		}
		if b.text {
			p.server.count.texts.Add(1)
		}
	}
	if p.script.Cut != "" { // the place is past the end of the body, or at it
		return errCut
	}
	return nil
}

func (p *player) head(c *chat) {
	h := p.w.Header()
	h.Set("Content-Type", p.script.ContentType)
	if p.script.ContentType == "none" {
		h["Content-Type"] = nil // net/http does not guess then
	}
	h.Set("Cache-Control", "no-cache")
	switch p.script.Framing {
	case "length":
		h.Set("Content-Length", strconv.Itoa(p.script.length(c)))
	case "close":
		h.Set("Transfer-Encoding", "identity") // what net/http takes for it; it is not sent
	}
	if p.script.Close {
		h.Set("Connection", "close")
	}
	p.w.WriteHeader(p.script.Status)
}

// pause waits for d, counted from the end of the last pause on schedule, so that delays do not add up. The error is that
// of the context.
func (p *player) pause(d time.Duration) error {
	if d <= 0 {
		return p.ctx.Err()
	}
	p.due = p.due.Add(d)
	wait := time.Until(p.due)
	if d >= 5*grid { // below, rounding would be felt
		wait = time.Until(p.due.Truncate(grid).Add(grid))
	}
	if p.timer == nil {
		p.timer = time.NewTimer(wait)
	} else {
		p.timer.Reset(wait)
	}
	select {
	case <-p.ctx.Done():
		return p.ctx.Err()
	case <-p.timer.C:
		return nil
	}
}

// write sends b, in the pieces that the script says, up to the place where it is cut.
func (p *player) write(b []byte) error {
	cut := false
	if p.script.Cut != "" && p.sent+int64(len(b)) > p.script.CutAt {
		b, cut = b[:p.script.CutAt-p.sent], true
	}
	for len(b) > 0 {
		n := len(b)
		if p.script.WriteBytes > 0 {
			n = min(n, p.script.WriteBytes)
		}
		if _, err := p.w.Write(b[:n]); err != nil {
			return err
		}
		if err := p.flush(); err != nil {
			return err
		}
		p.sent += int64(n)
		b = b[n:]
	}
	if cut {
		return errCut
	}
	return nil
}

// accident is what comes where the script is cut. It returns where the response is to end in order.
func (p *player) accident(r *http.Request) {
	switch p.script.Cut {
	case CutEnd:
		return
	case CutClose, CutReset:
		if r.ProtoMajor == 2 {
			time.Sleep(flushPatience)
		}
		conn, _ := r.Context().Value(connKey{}).(net.Conn)
		hangUp(conn, p.script.Cut == CutReset)
	}
	panic(http.ErrAbortHandler)
}

// flushPatience is how long the end of a connection waits for what came before: net/http writes the frames of HTTP/2 from
// another goroutine, and Flush does not wait until they have left.
const flushPatience = 20 * time.Millisecond

// connKey is where a request's context has its connection.
type connKey struct{}

// hangUp closes what is under any TLS; reset sends a RST in place of a FIN.
func hangUp(conn net.Conn, reset bool) {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0) // fails on a closed one only
	}
	_ = conn.Close()
}
