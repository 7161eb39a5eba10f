package dial_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/dial"
	"streaming-daemon-go/sse/openai/upstream"
)

// server is a TLS server that offers protocols, shakes hands, and reads until the end.
func server(t *testing.T, protocols ...string) (upstream.Target, *x509.CertPool) {
	t.Helper()
	s := httptest.NewTLSServer(nil) // for its certificate
	cfg := &tls.Config{Certificates: s.TLS.Certificates, NextProtos: protocols}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	s.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = ln.Close(); running.Wait() })
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(10 * time.Second))
				_, _ = io.Copy(io.Discard, c)
			})
		}
	})
	to := ln.Addr().(*net.TCPAddr)
	return upstream.Target{TLS: true, Host: "127.0.0.1", Port: to.Port}, roots
}

// proxy runs f for each connection to it and gives its URL.
func proxy(t *testing.T, f func(c net.Conn, r *http.Request)) *url.URL {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			r, err := http.ReadRequest(bufio.NewReader(c))
			if err == nil {
				f(c, r)
			}
			_ = c.Close()
		}
	}()
	return &url.URL{Scheme: "http", Host: ln.Addr().String()}
}

// tunnel answers a CONNECT and copies both ways.
func tunnel(t *testing.T, answer string) func(net.Conn, *http.Request) {
	return func(c net.Conn, r *http.Request) {
		far, err := net.Dial("tcp", r.RequestURI)
		if err != nil || r.Method != http.MethodConnect || r.Host != r.RequestURI {
			t.Errorf("%s %s for %s: %v", r.Method, r.RequestURI, r.Host, err)
			return
		}
		defer far.Close()
		_, _ = io.WriteString(c, answer)
		back := make(chan struct{})
		go func() { defer close(back); _, _ = io.Copy(c, far); _ = c.(*net.TCPConn).CloseWrite() }()
		_, _ = io.Copy(far, c)
		_ = far.(*net.TCPConn).CloseWrite()
		<-back
	}
}

func always(u *url.URL) func(*url.URL) (*url.URL, error) {
	return func(*url.URL) (*url.URL, error) { return u, nil }
}

func never(*url.URL) (*url.URL, error) { return nil, nil }

// TestProtocols: what ALPN has chosen is what the server likes best of what was offered.
func TestProtocols(t *testing.T) {
	for want, known := range map[string][]string{"h2": {"h2", "http/1.1"}, "http/1.1": {"http/1.1"}} {
		t.Run(want, func(t *testing.T) {
			fdtest.NoLeaks(t)
			to, roots := server(t, known...)
			d, err := dial.New(dial.Config{Target: to, RootCAs: roots, Proxy: never})
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.Dial(context.Background(), "h2", "http/1.1")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != want {
				t.Errorf("%q", got)
			}
		})
	}
}

// TestProxy: the tunnel leads to the target, whose certificate is checked through it, and the first bytes after the
// proxy's answer are the tunnel's.
func TestProxy(t *testing.T) {
	for name, answer := range map[string]string{
		"plain":  "HTTP/1.1 200 Connection established\r\n\r\n",
		"fields": "HTTP/1.0 200 OK\r\nVia: x\r\nX: " + strings.Repeat("y", 3000) + "\r\n\r\n",
		"LF":     "HTTP/1.1 200 OK\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			to, roots := server(t, "h2")
			auth := make(chan string, 1)
			via := proxy(t, func(c net.Conn, r *http.Request) {
				auth <- r.Header.Get("Proxy-Authorization")
				tunnel(t, answer)(c, r)
			})
			via.User = url.UserPassword("Aladdin", "open sesame")
			var asked *url.URL
			d, err := dial.New(dial.Config{Target: to, RootCAs: roots, Proxy: func(u *url.URL) (*url.URL, error) { asked = u; return via, nil }})
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.Dial(context.Background(), "h2")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.(*tls.Conn).ConnectionState().NegotiatedProtocol; got != "h2" {
				t.Errorf("%q", got)
			}
			if got := <-auth; got != "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==" { // RFC 7617, section 2
				t.Error(got)
			}
			if asked.Scheme != "https" || asked.Port() != strconv.Itoa(to.Port) {
				t.Error(asked)
			}
		})
	}
}

// TestEnvironment: the usual variables name the proxy, and loopback has none.
func TestEnvironment(t *testing.T) {
	fdtest.NoLeaks(t)
	to, roots := server(t, "h2")
	hit := make(chan string, 1)
	via := proxy(t, func(_ net.Conn, r *http.Request) { hit <- r.RequestURI })
	t.Setenv("HTTPS_PROXY", via.String())
	t.Setenv("NO_PROXY", "")
	d, err := dial.New(dial.Config{Target: to, RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	c, err := d.Dial(context.Background(), "h2")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	to.Host, to.Port = "llm.example", 443
	if d, err = dial.New(dial.Config{Target: to}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(context.Background(), "h2"); !errors.Is(err, upstream.ErrConnect) {
		t.Error(err)
	}
	if got := <-hit; got != "llm.example:443" {
		t.Error(got)
	}
}

// TestFailures: each has its error, leaves nothing open, and quotes neither the far end nor a password.
func TestFailures(t *testing.T) {
	say := func(answer string) func(net.Conn, *http.Request) {
		return func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, answer) }
	}
	hold := func(c net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, c) }
	tests := []struct {
		name  string
		proxy func(net.Conn, *http.Request) // nil: none
		to    func(*upstream.Target)
		err   error
	}{
		{"refused by the proxy", say("HTTP/1.1 407 SECRET\r\nX: SECRET\r\n\r\n"), nil, upstream.ErrConnect},
		{"no HTTP proxy", say("SECRET SECRET SECRET\r\n\r\n"), nil, upstream.ErrConnect},
		{"an interim answer", say("HTTP/1.1 100 SECRET\r\n\r\n"), nil, upstream.ErrConnect},
		{"an endless answer", say("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("SECRET", 5000)), nil, upstream.ErrConnect},
		{"half an answer", say("HTTP/1.1 200 SECRET\r\n"), nil, upstream.ErrConnect},
		{"a silent proxy", hold, nil, upstream.ErrConnectTimeout},
		{"a tunnel to no TLS", say("HTTP/1.1 200 OK\r\n\r\nSECRET SECRET"), nil, upstream.ErrTLS},
		{"another name", nil, func(to *upstream.Target) { to.Host = "localhost" }, upstream.ErrTLS},
		{"nobody listens", nil, func(to *upstream.Target) { to.Port = 1 }, upstream.ErrConnect},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			to, roots := server(t, "h2")
			cfg := dial.Config{Target: to, RootCAs: roots, Proxy: never, Timeout: time.Second}
			if tt.to != nil {
				tt.to(&cfg.Target)
			}
			if tt.proxy != nil {
				via := proxy(t, tt.proxy)
				via.User = url.UserPassword("SECRET", "SECRET")
				cfg.Proxy = always(via)
			}
			d, err := dial.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			c, err := d.Dial(context.Background(), "h2")
			if !errors.Is(err, tt.err) || c != nil {
				t.Fatalf("%v, %v; want %v", c, err, tt.err)
			}
			if strings.Contains(err.Error(), "SECRET") {
				t.Errorf("the error quotes: %v", err)
			}
		})
	}
}

// TestCanceled: the end of the context ends a dial at any stage.
func TestCanceled(t *testing.T) {
	fdtest.NoLeaks(t)
	to, roots := server(t, "h2")
	ctx, cancel := context.WithCancel(context.Background())
	via := proxy(t, func(c net.Conn, _ *http.Request) { cancel(); _, _ = io.Copy(io.Discard, c) })
	d, err := dial.New(dial.Config{Target: to, RootCAs: roots, Proxy: always(via), Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Dial(ctx, "h2"); err == nil {
		t.Error("it went on")
	}
}

// TestConfig: what cannot work is refused at the start, without quoting a password.
func TestConfig(t *testing.T) {
	bad := func(*url.URL) (*url.URL, error) { return nil, errors.New("SECRET") }
	https := upstream.Target{TLS: true, Host: "a", Port: 443}
	for name, cfg := range map[string]dial.Config{
		"no host":     {Target: upstream.Target{TLS: true, Port: 443}},
		"no port":     {Target: upstream.Target{Host: "a"}},
		"bad proxy":   {Target: https, Proxy: bad},
		"socks proxy": {Target: https, Proxy: always(&url.URL{Scheme: "socks5", Host: "SECRET"})},
	} {
		if _, err := dial.New(cfg); err == nil || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzConnectAnswer: whatever a proxy answers, the dial ends, and goes on to TLS only after a 2xx.
func FuzzConnectAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\n\r\n")
	f.Add("HTTP/1.1 407 No\r\nA: b\r\n\r\n")
	f.Add("HTTP/1.1 2")
	f.Fuzz(func(t *testing.T, answer string) {
		status, ok := dial.ReadAnswer(strings.NewReader(answer))
		if !ok {
			return
		}
		r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(answer)), &http.Request{Method: http.MethodConnect})
		if err == nil && r.StatusCode != status {
			t.Fatalf("%d; net/http reads %d", status, r.StatusCode)
		}
		if status < 100 || status > 999 {
			t.Fatal(status)
		}
	})
}
