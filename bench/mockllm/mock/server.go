package mock

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Config is what a Server needs. The zero value is fine.
type Config struct {
	Script  Script // of every request that does not change it
	Key     string // what requests must have as `Authorization: Bearer …`; "": they need none
	Streams int    // HTTP/2: at a time on a connection, as SETTINGS_MAX_CONCURRENT_STREAMS. 0: net/http's own, 250
	NoH2    bool   // HTTP/1.1 only, over TLS too

	// Saw is told of each request for a completion and its body; nil: nobody is. On the request's goroutine.
	Saw func(r *http.Request, body []byte)
}

// Server is the mock. Make it with New. It is an http.Handler, for who has a server of his own; Listen is for all
// others. Its methods may be called from any goroutine.
type Server struct {
	cfg     Config // immutable
	ids     string // immutable; the start of every completion's id
	created int64  // immutable; Unix seconds
	cert    certificate
	http    *http.Server
	mux     *http.ServeMux
	count   counters
	serving sync.WaitGroup
}

// New makes a server that listens nowhere yet.
func New(cfg Config) (*Server, error) {
	if err := cfg.Script.Check(); err != nil {
		return nil, err
	}
	cert, err := newCertificate(time.Now())
	if err != nil {
		return nil, fmt.Errorf("mock: certificate: %w", err)
	}
	s := &Server{cfg: cfg, ids: "chatcmpl-mock", created: time.Now().Unix(), cert: cert, mux: http.NewServeMux()}
	s.mux.HandleFunc("POST /", s.serveChat)
	s.mux.HandleFunc("GET /stats", s.serveStats)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!cfg.NoH2)
	protocols.SetUnencryptedHTTP2(!cfg.NoH2)
	s.http = &http.Server{
		Handler:           s,
		Protocols:         protocols,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: cfg.Streams},
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert.pair}},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(ignore{}, "", 0), // clients that break off are what it is there for
		ConnState:         s.connState,
		ConnContext:       connContext,
	}
	return s, nil
}

// Where a server listens.
const (
	Plain  = "http"  // HTTP/1.1, and HTTP/2 by prior knowledge
	Secure = "https" // HTTP/2 and HTTP/1.1 over TLS, with the server's own certificate
	Unix   = "unix"  // as Plain; addr is a path
)

// Listen serves on addr as well, in the way that scheme says, and gives the base for clients ("http://127.0.0.1:4711/v1";
// with Unix, "http://localhost/v1"). Close ends it.
func (s *Server) Listen(scheme, addr string) (base string, err error) {
	network, host := "tcp", ""
	if scheme == Unix {
		network, host = "unix", "localhost"
	}
	l, err := net.Listen(network, addr)
	if err != nil {
		return "", fmt.Errorf("mock: %w", err)
	}
	serve := func() error { return s.http.Serve(l) }
	switch scheme {
	case Plain, Secure:
		host = l.Addr().String()
	}
	base = "http://" + host + "/v1"
	if scheme == Secure {
		base = "https://" + host + "/v1"
		serve = func() error { return s.http.ServeTLS(l, "", "") }
	}
	s.serving.Go(func() {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("mock: the listener failed: %v", err)) // whoever tests with it must not go on without
		}
	})
	return base, nil
}

// Close ends every connection and all listeners. Twice is safe.
func (s *Server) Close() {
	_ = s.http.Close() // listeners' errors: they are closed for certain
	s.serving.Wait()
}

// Roots is who a client must trust for the certificate.
func (s *Server) Roots() *x509.CertPool { return s.cert.roots() }

// CertificatePEM is the certificate, for SSL_CERT_FILE.
func (s *Server) CertificatePEM() []byte { return s.cert.pem }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

func (s *Server) serveChat(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, "/chat/completions") {
		http.NotFound(w, r)
		return
	}
	id := s.count.requests.Add(1)
	script := s.cfg.Script
	c, body, err := readChat(r, &script)
	if s.cfg.Saw != nil {
		s.cfg.Saw(r, body)
	}
	if err == nil && s.cfg.Key != "" && r.Header.Get("Authorization") != "Bearer "+s.cfg.Key {
		err = errorFor(http.StatusUnauthorized)
	}
	if err == nil && script.Status >= 300 {
		err = errorFor(script.Status)
		if script.RetryAfter != "" {
			w.Header().Set("Retry-After", script.RetryAfter)
		}
	}
	var refusal *apiError
	switch {
	case errors.As(err, &refusal):
		refusal.write(w)
		return
	case err != nil: // the body did not come
		panic(http.ErrAbortHandler)
	}
	script = script.withDefaults()
	c.id, c.created = s.ids+strconv.FormatUint(id, 10), s.created
	s.play(w, r, &script, c)
}

// sendBuffer is SO_SNDBUF of each connection, in bytes. Left alone the kernel takes up to 4 MiB for a client that does not
// read: a thousand of them took 2.3 GB, which is all that TCP may have on a machine of 24 GB, and every connection on
// it suffered.
const sendBuffer = 64 << 10

func connContext(ctx context.Context, c net.Conn) context.Context {
	tcp, _ := c.(*net.TCPConn)
	if secure, ok := c.(*tls.Conn); ok {
		tcp, _ = secure.NetConn().(*net.TCPConn)
	}
	if tcp != nil {
		_ = tcp.SetWriteBuffer(sendBuffer) // fails on a connection that is gone
	}
	return context.WithValue(ctx, connKey{}, c)
}

func (s *Server) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.count.accepted.Add(1)
		s.count.connections.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.count.connections.Add(-1)
	}
}

// ignore is an io.Writer for a log that nobody reads.
type ignore struct{}

func (ignore) Write(b []byte) (int, error) { return len(b), nil }
