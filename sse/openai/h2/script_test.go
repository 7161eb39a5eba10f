package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"streaming-daemon-go/sse/openai/h2"
	"streaming-daemon-go/sse/openai/upstream"
)

// script is an upstream that speaks plain HTTP/2, frame by frame as a test wants it. It ends with the test.
type script struct {
	t        testing.TB
	ln       net.Listener
	accepted atomic.Int64
	requests atomic.Int64 // read whole
	run      func(*peer)

	mu      sync.Mutex
	open    map[net.Conn]bool // guarded by mu; nil once closed
	running sync.WaitGroup
}

// startScript runs f in a goroutine for each connection, which is closed when f returns.
func startScript(t testing.TB, f func(*peer)) *script {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, ln: ln, run: f, open: make(map[net.Conn]bool)}
	t.Cleanup(s.close)
	s.running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.serve(c)
		}
	})
	return s
}

func (s *script) serve(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		_ = c.Close()
		return
	}
	s.open[c] = true
	p := &peer{Conn: c, s: s, t: s.t, n: int(s.accepted.Add(1)), fr: http2.NewFramer(c, c), parts: map[uint32]*asked{}}
	p.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.enc = hpack.NewEncoder(&p.block)
	s.running.Go(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, c)
			_ = c.Close()
		}()
		_ = c.SetDeadline(time.Now().Add(patience))
		s.run(p)
	})
}

func (s *script) close() {
	_ = s.ln.Close()
	s.mu.Lock()
	for c := range s.open {
		_ = c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.running.Wait()
}

// config is that of a transport to the script.
func (s *script) config() h2.Config {
	to := targetOf(s.t, s.ln.Addr())
	to.TLS, to.PriorH2 = false, true
	return h2.Config{Target: to}
}

// peer is the server's end of one connection. Its methods are for the script's goroutine. None ends the test: the far end
// may be gone at any time.
type peer struct {
	net.Conn
	s     *script
	t     testing.TB
	n     int // of this connection, from 1
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	parts map[uint32]*asked // requests read in part
	read  int               // for the script's own use
}

// greet reads the preface and says settings.
func (p *peer) greet(settings ...http2.Setting) {
	b := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(p, b); err == nil && string(b) != http2.ClientPreface {
		p.t.Errorf("the preface is %q", b)
	}
	_ = p.fr.WriteSettings(settings...)
}

// next gives the next frame that is neither a SETTINGS nor a WINDOW_UPDATE; nil: there is none.
func (p *peer) next() http2.Frame {
	for {
		f := p.any()
		switch f.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
			continue
		}
		return f
	}
}

// any gives the next frame; settings are acknowledged.
func (p *peer) any() http2.Frame {
	f, err := p.fr.ReadFrame()
	if err != nil {
		var stream http2.StreamError
		var conn http2.ConnectionError
		if errors.As(err, &stream) || errors.As(err, &conn) {
			p.t.Errorf("what the server reads is not HTTP/2: %v: %v", err, p.fr.ErrorDetail())
		}
		return nil
	}
	if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
		_ = p.fr.WriteSettingsAck()
	}
	return f
}

// asked is a request that was read whole.
type asked struct {
	id     uint32
	fields []hpack.HeaderField
	body   string
}

// request reads until a request is whole; nil: the end came first.
func (p *peer) request() *asked {
	for {
		var r *asked
		ended := false
		switch f := p.next().(type) {
		case nil:
			return nil
		case *http2.MetaHeadersFrame:
			r = &asked{id: f.StreamID, fields: append([]hpack.HeaderField(nil), f.Fields...)}
			p.parts[r.id] = r
			ended = f.StreamEnded()
		case *http2.DataFrame:
			if r = p.parts[f.StreamID]; r == nil {
				p.t.Errorf("a body for stream %d", f.StreamID)
				return nil
			}
			r.body += string(f.Data())
			ended = f.StreamEnded()
		}
		if ended {
			delete(p.parts, r.id)
			p.s.requests.Add(1)
			return r
		}
	}
}

// head sends a response's head, or trailers; fields are name, value, name, value.
func (p *peer) head(id uint32, end bool, fields ...string) {
	_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(fields...), EndHeaders: true, EndStream: end})
}

func (p *peer) encode(fields ...string) []byte {
	p.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		_ = p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.block.Bytes()
}

func (p *peer) ok(id uint32) { p.head(id, false, ":status", "200") }

func (p *peer) data(id uint32, end bool, text string) { _ = p.fr.WriteData(id, end, []byte(text)) }

// answer is a whole response.
func (p *peer) answer(id uint32, text string) {
	p.ok(id)
	p.data(id, true, text)
}

// serveAll answers every request, with its own body when it has one.
func (p *peer) serveAll() {
	for r := p.request(); r != nil; r = p.request() {
		p.answer(r.id, "hello"+r.body)
	}
}

// until reads up to a frame that want accepts, and gives it; nil: the end came first.
func until[F http2.Frame](p *peer, want func(F) bool) (f F, ok bool) {
	for {
		next := p.any()
		if next == nil {
			return f, false
		}
		if f, ok := next.(F); ok && want(f) {
			return f, true
		}
	}
}

// mustReset waits for the far end to reset a stream with a code.
func (p *peer) mustReset(id uint32, code http2.ErrCode) {
	f, ok := until(p, func(f *http2.RSTStreamFrame) bool { return f.StreamID == id })
	if !ok || f.ErrCode != code {
		p.t.Errorf("stream %d: no reset with %v: %v", id, code, f)
	}
}

// mustGoAway waits for the far end to end the connection with a code.
func (p *peer) mustGoAway(code http2.ErrCode) {
	f, ok := until(p, func(*http2.GoAwayFrame) bool { return true })
	if !ok || f.ErrCode != code {
		p.t.Errorf("no GOAWAY with %v: %v", code, f)
	}
}

func mustFail(t testing.TB, a *answer, want error) {
	t.Helper()
	if !errors.Is(a.err, want) {
		t.Fatalf("%v; want %v", a, want)
	}
	if text := a.err.Error(); strings.Contains(text, "Bearer") || strings.Contains(text, "hello") {
		t.Errorf("the error quotes: %s", text)
	}
}

// bare is a request without fields or body.
func bare() *upstream.Request { return &upstream.Request{Path: "/"} }
