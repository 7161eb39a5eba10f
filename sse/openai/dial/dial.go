package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"time"

	"golang.org/x/net/http/httpproxy"

	"streaming-daemon-go/sse/openai/upstream"
)

// Config says where to. A zero field but Target takes its default.
type Config struct {
	Target  upstream.Target
	Timeout time.Duration  // for all of Dial: name, connection, proxy, TLS. 5 s
	RootCAs *x509.CertPool // who may sign the certificate; nil: the system's
	// Proxy gives the proxy for the target's URL, or nil. nil: what HTTPS_PROXY and NO_PROXY say (loopback never has
	// one). It is asked for https alone: plain HTTP/2 through a proxy would need a CONNECT that few allow.
	Proxy func(*url.URL) (*url.URL, error)
}

// Dialer makes connections to one target. Any goroutine may use it.
type Dialer struct {
	cfg   Config   // immutable
	addr  string   // host:port of the target
	proxy *url.URL // immutable; nil: none
}

// New checks the configuration. It opens nothing.
func New(cfg Config) (*Dialer, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Proxy == nil {
		cfg.Proxy = httpproxy.FromEnvironment().ProxyFunc()
	}
	to := cfg.Target
	if to.Host == "" && (to.TLS || to.Socket == "") || to.Socket == "" && (to.Port < 1 || to.Port > 65535) {
		return nil, errors.New("dial: a target needs a host and a port, or a socket")
	}
	d := &Dialer{cfg: cfg, addr: net.JoinHostPort(to.Host, strconv.Itoa(to.Port))}
	if !to.TLS || to.Socket != "" {
		return d, nil
	}
	proxy, err := cfg.Proxy(&url.URL{Scheme: "https", Host: d.addr})
	if err != nil || proxy != nil && proxy.Scheme != "http" && proxy.Scheme != "https" || proxy != nil && proxy.Hostname() == "" {
		// The URL may hold a password: name the variable, not the value.
		return nil, errors.New("dial: HTTPS_PROXY is no http or https URL")
	}
	d.proxy = proxy
	return d, nil
}

// Dial makes a connection. With a TLS target it is a *tls.Conn after its handshake, in which protocols were offered by
// ALPN, best first. Below all TLS is a *Socket: see Bottom. The error wraps one of upstream's. It blocks, no longer than the timeout; the caller owns the
// connection.
func (d *Dialer) Dial(ctx context.Context, protocols ...string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	c, err := d.connect(ctx)
	if err != nil || !d.cfg.Target.TLS {
		return c, err
	}
	return d.handshake(ctx, c, d.cfg.Target.Host, protocols)
}

// connect makes the connection that TLS or HTTP/2 runs on.
func (d *Dialer) connect(ctx context.Context) (net.Conn, error) {
	switch {
	case d.cfg.Target.Socket != "":
		return open(ctx, "unix", d.cfg.Target.Socket)
	case d.proxy == nil:
		return open(ctx, "tcp", d.addr)
	}
	port := d.proxy.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[d.proxy.Scheme]
	}
	c, err := open(ctx, "tcp", net.JoinHostPort(d.proxy.Hostname(), port))
	if err == nil && d.proxy.Scheme == "https" {
		c, err = d.handshake(ctx, c, d.proxy.Hostname(), []string{"http/1.1"})
	}
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return d.tunnel(ctx, c)
}

// open connects, to the first address of a name that answers.
func open(ctx context.Context, network, address string) (net.Conn, error) {
	var nd net.Dialer
	c, err := nd.DialContext(ctx, network, address)
	if err == nil {
		return NewSocket(c), nil
	}
	var name *net.DNSError
	switch {
	case timedOut(ctx, err):
		return nil, fmt.Errorf("%w: %w", upstream.ErrConnectTimeout, err)
	case errors.As(err, &name):
		return nil, fmt.Errorf("%w: %w", upstream.ErrResolve, err)
	}
	return nil, fmt.Errorf("%w: %w", upstream.ErrConnect, err)
}

// handshake puts TLS on c, which it closes when that fails.
func (d *Dialer) handshake(ctx context.Context, c net.Conn, host string, protocols []string) (net.Conn, error) {
	secure := tls.Client(c, &tls.Config{
		ServerName:         host,
		NextProtos:         protocols,
		RootCAs:            d.cfg.RootCAs,
		InsecureSkipVerify: d.cfg.Target.InsecureTLS,
		MinVersion:         tls.VersionTLS12, // RFC 9113, 9.2
	})
	err := secure.HandshakeContext(ctx)
	if err == nil {
		return secure, nil
	}
	_ = c.Close()
	if timedOut(ctx, err) {
		return nil, fmt.Errorf("%w: TLS handshake", upstream.ErrConnectTimeout)
	}
	return nil, fmt.Errorf("%w: %w", upstream.ErrTLS, handshakeError(err))
}

// handshakeError keeps what says nothing but what is wrong: a server that does not speak TLS has its bytes in the error.
func handshakeError(err error) error {
	var record tls.RecordHeaderError
	if errors.As(err, &record) {
		return errors.New("the far end does not speak TLS")
	}
	return err
}

func timedOut(ctx context.Context, err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(ctx.Err(), context.DeadlineExceeded)
}
