package h2

import (
	"context"
	"crypto/x509"
	"errors"
	"math"
	"net"
	"net/netip"
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
	Target         upstream.Target // with TLS or PriorH2
	ConnectTimeout time.Duration   // for name, connection, proxy, TLS and the server's first frame together. 5 s
	IdleTimeout    time.Duration   // of a connection without a call. 30 s
	PingIdle       time.Duration   // a connection with calls and no frame for so long is pinged. 15 s
	PingTimeout    time.Duration   // and is dead when nothing comes for so long after that. 15 s
	ConnsMax       int             // connections at a time; past them, calls wait for room. 256
	StreamWindow   int32           // bytes, at most 64 KiB: what one paused call may still get. 32 KiB
	RootCAs        *x509.CertPool  // who may sign the server's certificate; nil: the system's
	// Proxy: see dial.Config.
	Proxy func(*url.URL) (*url.URL, error)
	// Fallback carries the calls when the server does not choose h2; nil: they fail with ErrTLS. The Transport closes it.
	Fallback upstream.Transport
}

const (
	dialsMax      = 8               // connections made at a time: bounds goroutines, and the burst that a server sees
	dialPause     = time.Second     // before the next attempt after a failure, as long as other connections carry calls
	fallbackFor   = 5 * time.Minute // until a server that did not choose h2 is asked again
	streamWindow  = 32 << 10        // 250 tokens in the usual form: 150 ms of round trip at 1,600 tokens/s
	windowMax     = 64 << 10        // the contract's bound for a paused call
	windowDefault = 65535           // RFC 9113, 6.9.2: of the connection, until it is raised
)

// Transport is an upstream.Transport over HTTP/2.
type Transport struct {
	cfg       Config       // immutable
	dialer    *dial.Dialer // immutable
	authority string       // immutable; of :authority
	scheme    string       // immutable
	shards    []*shard     // immutable; by loop index
	keeper    keeper
	ctx       context.Context // ends with Close; bounds dials
	cancel    context.CancelFunc
	running   sync.WaitGroup // dials, connections that a loop reads, writers

	waitingNow atomic.Int64 // waiting.len, for those without the lock

	mu            sync.Mutex
	waiting       callList
	conns         []*conn       // greeted and not ended; the first with room gets a call, so that the last ones run idle
	dialing       int           // connections being made
	perConn       int           // how many calls the server takes on a connection, as it last said; 0: not known yet
	dialAfter     time.Duration // loop clock; see dialPause
	fallbackUntil time.Duration // loop clock; see fallbackFor
	closed        bool

	dials, reused, retried atomic.Uint64
}

// shard is what the calls of one loop share.
type shard struct {
	t    *Transport // immutable
	loop *loop.Loop // immutable

	calls, paused atomic.Int64 // written by the loop alone
	bytesIn       atomic.Uint64
}

// New makes a transport for the loops of a pool. It opens nothing yet.
func New(pool *loop.Pool, cfg Config) (*Transport, error) {
	to := cfg.Target
	if to.TLS == to.PriorH2 {
		return nil, errors.New("h2: either TLS or prior knowledge")
	}
	setDefault(&cfg.ConnectTimeout, 5*time.Second)
	setDefault(&cfg.IdleTimeout, 30*time.Second)
	setDefault(&cfg.PingIdle, 15*time.Second)
	setDefault(&cfg.PingTimeout, 15*time.Second)
	setDefault(&cfg.ConnsMax, 256)
	setDefault(&cfg.StreamWindow, streamWindow)
	if cfg.StreamWindow < 0 || cfg.StreamWindow > windowMax {
		return nil, errors.New("h2: a stream's window is at most 64 KiB")
	}
	dialer, err := dial.New(dial.Config{Target: to, Timeout: cfg.ConnectTimeout, RootCAs: cfg.RootCAs, Proxy: cfg.Proxy})
	if err != nil {
		return nil, err
	}
	t := &Transport{cfg: cfg, dialer: dialer, authority: authority(to), scheme: "http"}
	if to.TLS {
		t.scheme = "https"
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	for _, l := range pool.Loops() {
		t.shards = append(t.shards, &shard{t: t, loop: l})
	}
	t.keeper.init(t)
	return t, nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// authority is the value of :authority (RFC 9113, section 8.3.1).
func authority(to upstream.Target) string {
	port := 80
	if to.TLS {
		port = 443
	}
	switch {
	case to.Host == "":
		return "localhost"
	case to.Port == port || to.Port == 0:
		if ip, err := netip.ParseAddr(to.Host); err == nil && ip.Is6() {
			return "[" + to.Host + "]"
		}
		return to.Host
	}
	return net.JoinHostPort(to.Host, strconv.Itoa(to.Port))
}

// Start implements upstream.Transport.
func (t *Transport) Start(l *loop.Loop, req *upstream.Request, to upstream.Receiver) upstream.Call {
	c := &call{sh: t.shards[l.Index()], to: to, req: req, began: l.Clock()}
	t.mu.Lock()
	if t.cfg.Fallback != nil && !t.closed && c.began < t.fallbackUntil {
		t.mu.Unlock()
		return t.cfg.Fallback.Start(l, req, to)
	}
	defer t.mu.Unlock()
	c.sh.calls.Add(1)
	if t.closed {
		c.failLater(upstream.ErrClosed)
		return c
	}
	t.wait(c)
	t.place()
	return c
}

// Counts implements upstream.Transport.
func (t *Transport) Counts() upstream.Counts {
	var n upstream.Counts
	if t.cfg.Fallback != nil {
		n = t.cfg.Fallback.Counts()
	}
	for _, sh := range t.shards {
		n.Calls += sh.calls.Load()
		n.Paused += sh.paused.Load()
		n.BytesIn += sh.bytesIn.Load()
	}
	n.Dials += t.dials.Load()
	n.Reused += t.reused.Load()
	n.Retried += t.retried.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	n.Open += int64(len(t.conns) + t.dialing)
	for _, c := range t.conns {
		if c.idle() {
			n.Idle++
		}
	}
	return n
}

// Close implements upstream.Transport, but for this: calls under way fail with ErrClosed. The loops must turn meanwhile,
// since it is they who close the connections: it waits for them.
func (t *Transport) Close() {
	t.cancel()
	conns := t.shut()
	for _, c := range conns {
		c.goodbye(upstream.ErrClosed)
	}
	t.running.Wait()
	if t.cfg.Fallback != nil {
		t.cfg.Fallback.Close()
	}
}

// shut lets no call in any more and gives the connections that are left to end.
func (t *Transport) shut() []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.failWaiting(upstream.ErrClosed)
	return append([]*conn(nil), t.conns...)
}

// clock is the time on the loops' common clock. Any goroutine.
func (t *Transport) clock() time.Duration { return t.shards[0].loop.Clock() }

const streamIDMax = math.MaxInt32
