// Package upstreamtest is a scripted upstream: a listener whose every
// connection runs a function of the test, which reads requests and writes exact
// bytes.
//
//	s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
//		c.Request()
//		c.Write("HTTP/1.1 200 OK\r\n…")
//	})
//
// It imports testing, so only tests may import it.
package upstreamtest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds every read and write of a script: reached only by a test that fails.
const patience = 20 * time.Second

// Server is a scripted upstream. It ends with the test.
type Server struct {
	Addr     string // host:port, or the path of the Unix socket
	Accepted atomic.Int64
	Requests atomic.Int64 // read by scripts

	ln      net.Listener
	mu      sync.Mutex
	open    map[net.Conn]bool // guarded by mu; nil once closed
	closing chan struct{}
	running sync.WaitGroup
}

// Start serves on network "tcp" (a port of 127.0.0.1) or "unix". script runs in a goroutine for each connection, which
// is closed when it returns.
func Start(t testing.TB, network string, script func(c *Conn)) *Server {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: ln.Addr().String(), ln: ln, open: make(map[net.Conn]bool), closing: make(chan struct{})}
	t.Cleanup(s.Close)
	s.running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.serve(t, c, script)
		}
	})
	return s
}

func (s *Server) serve(t testing.TB, c net.Conn, script func(*Conn)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		_ = c.Close()
		return
	}
	s.open[c] = true
	n := s.Accepted.Add(1)
	s.running.Go(func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			delete(s.open, c)
			_ = c.Close()
		}()
		_ = c.SetDeadline(time.Now().Add(patience))
		script(&Conn{Conn: c, N: int(n), t: t, s: s, r: bufio.NewReader(c)})
	})
}

// Port is the TCP port.
func (s *Server) Port() int { return s.ln.Addr().(*net.TCPAddr).Port }

// Close stops listening, closes every connection and waits for the scripts. Twice is safe.
func (s *Server) Close() {
	_ = s.ln.Close()
	s.mu.Lock()
	if s.open != nil {
		close(s.closing)
	}
	for c := range s.open {
		_ = c.Close()
	}
	s.open = nil
	s.mu.Unlock()
	s.running.Wait()
}

// Conn is one connection of a script. Its methods are for the script's goroutine. None ends the test: a script may find
// the far end gone at any time, and returns then.
type Conn struct {
	net.Conn
	N int // of this connection, from 1

	t testing.TB
	s *Server
	r *bufio.Reader
}

// Request is a request that was read whole.
type Request struct {
	*http.Request
	Text string // its body
}

// Request reads the next request; nil: there is none, the far end has closed.
func (c *Conn) Request() *Request {
	r, err := http.ReadRequest(c.r)
	if err != nil {
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !isReset(err) {
			c.t.Errorf("the upstream reads no request: %v", err)
		}
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	c.s.Requests.Add(1)
	return &Request{r, string(body)}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

// Write sends the pieces, each in a write of its own. It reports whether the far end took them.
func (c *Conn) Write(pieces ...string) bool {
	for _, p := range pieces {
		if _, err := c.Conn.Write([]byte(p)); err != nil {
			return false
		}
	}
	return true
}

// WriteBytewise sends text a byte at a time.
func (c *Conn) WriteBytewise(text string) bool {
	for i := range len(text) {
		if !c.Write(text[i : i+1]) {
			return false
		}
	}
	return true
}

// Wait waits until ch is closed or gives something, or the server closes: a test that fails must not hang on its script.
func (c *Conn) Wait(ch <-chan struct{}) {
	select {
	case <-ch:
	case <-c.s.closing:
	}
}

// Gone waits until the far end has closed and says when that was seen.
func (c *Conn) Gone() time.Time {
	_, _ = io.Copy(io.Discard, c.r)
	return time.Now()
}

// CloseWrite sends a FIN.
func (c *Conn) CloseWrite() {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// Reset makes the close a RST.
func (c *Conn) Reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}
