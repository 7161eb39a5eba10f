package h1tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/dial"
	"streaming-daemon-go/sse/openai/upstream"
)

// Config is what a Transport needs. A zero field but Target takes its default.
type Config struct {
	Target         upstream.Target // with TLS
	ConnectTimeout time.Duration   // for name, connection, proxy and TLS together. 5 s
	IdleTimeout    time.Duration   // of a connection that is kept; shorter than the upstream's. 30 s
	CallsMax       int             // calls under way, and so connections, at a time; three goroutines each. 256
	RootCAs        *x509.CertPool  // who may sign the server's certificate; nil: the system's
	// Proxy: see dial.Config.
	Proxy func(*url.URL) (*url.URL, error)
}

// headMax bounds a response's head, as it comes.
const headMax = 64 << 10

// Transport is an upstream.Transport over HTTP/1.1 and TLS.
type Transport struct {
	cfg    Config // immutable
	base   string // immutable: scheme and authority of the URLs
	client *http.Transport
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu      sync.Mutex
	waiting []*call // in order; those that were cancelled meanwhile are passed over
	workers int
	closed  bool
	running sync.WaitGroup // workers

	open, calls, carried, paused    atomic.Int64
	dials, reused, retried, bytesIn atomic.Uint64
}

// New makes a transport. It opens nothing yet.
func New(_ *loop.Pool, cfg Config) (*Transport, error) {
	if !cfg.Target.TLS {
		return nil, errors.New("h1tls: the target has no TLS")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 30 * time.Second
	}
	if cfg.CallsMax == 0 {
		cfg.CallsMax = 256
	}
	d, err := dial.New(dial.Config{Target: cfg.Target, Timeout: cfg.ConnectTimeout, RootCAs: cfg.RootCAs, Proxy: cfg.Proxy})
	if err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, base: "https://" + net.JoinHostPort(cfg.Target.Host, strconv.Itoa(cfg.Target.Port))}
	if cfg.Target.Port == 443 {
		t.base = (&url.URL{Scheme: "https", Host: hostOnly(cfg.Target.Host)}).String()
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.client = &http.Transport{
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			t.dials.Add(1)
			c, err := d.Dial(ctx, "http/1.1")
			if err != nil {
				return nil, err
			}
			t.open.Add(1)
			return &counted{Conn: c, t: t}, nil
		},
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // not nil: no HTTP/2
		DisableCompression:     true,
		MaxIdleConns:           cfg.CallsMax,
		MaxIdleConnsPerHost:    cfg.CallsMax,
		MaxConnsPerHost:        cfg.CallsMax, // bounds its dials, which go on when their call is cancelled
		IdleConnTimeout:        cfg.IdleTimeout,
		MaxResponseHeaderBytes: headMax,
	}
	return t, nil
}

// hostOnly puts brackets around an IPv6 literal.
func hostOnly(host string) string {
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		return "[" + host + "]"
	}
	return host
}

// counted is a connection that says when it is closed.
type counted struct {
	net.Conn
	t    *Transport
	once sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() { c.t.open.Add(-1) })
	return c.Conn.Close()
}

// Start implements upstream.Transport.
func (t *Transport) Start(l *loop.Loop, req *upstream.Request, to upstream.Receiver) upstream.Call {
	c := newCall(t, l, req, to)
	t.calls.Add(1)
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		c.tell(func() { c.fail(upstream.ErrClosed) })
	case t.workers < t.cfg.CallsMax:
		t.workers++
		t.running.Go(func() { t.work(c) })
	default:
		t.waiting = append(t.waiting, c)
	}
	return c
}

// work carries c and then those that wait.
func (t *Transport) work(c *call) {
	for ; c != nil; c = t.next() {
		t.carried.Add(1)
		c.carry()
		t.carried.Add(-1)
	}
}

// next gives the next call that waits; nil: there is none, and the worker ends.
func (t *Transport) next() *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.waiting) > 0 {
		c := t.waiting[0]
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		if c.ctx.Err() == nil {
			return c
		}
	}
	t.workers--
	return nil
}

// Counts implements upstream.Transport. A connection that is being made is not counted as open.
func (t *Transport) Counts() upstream.Counts {
	open := t.open.Load()
	return upstream.Counts{
		Open: open, Idle: max(0, open-t.carried.Load()), Calls: t.calls.Load(), Paused: t.paused.Load(),
		Dials: t.dials.Load(), Reused: t.reused.Load(), Retried: t.retried.Load(), BytesIn: t.bytesIn.Load(),
	}
}

// Close implements upstream.Transport, but for this: calls under way fail with ErrClosed, since none can go on without
// its goroutine.
func (t *Transport) Close() {
	t.mu.Lock()
	t.closed = true
	for _, c := range t.waiting {
		c.tell(func() { c.fail(upstream.ErrClosed) })
	}
	t.waiting = nil
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
	t.client.CloseIdleConnections()
}
