package h1

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
)

// Config is what a Transport needs. A zero field but Target takes its default.
type Config struct {
	Target         upstream.Target // without TLS and PriorH2
	ConnectTimeout time.Duration   // for the name, and for each address. 5 s
	IdleMax        int             // connections kept for another call, per loop; negative: none. 256
	IdleTimeout    time.Duration   // of one that is kept; shorter than the upstream's, or calls are sent twice. 30 s
	// Lookup resolves the target's name; nil: the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Transport is an upstream.Transport over HTTP/1.1.
type Transport struct {
	cfg       Config   // immutable
	authority string   // immutable; of the Host field
	shards    []*shard // immutable; by loop index
	names     *names
}

// New makes a transport for the loops of a pool. It opens nothing yet.
func New(pool *loop.Pool, cfg Config) (*Transport, error) {
	to := cfg.Target
	switch {
	case to.TLS, to.PriorH2:
		return nil, errors.New("h1: neither TLS nor HTTP/2")
	case to.Socket == "" && (to.Port < 1 || to.Port > 65535 || to.Host == ""):
		return nil, errors.New("h1: a target needs a host and a port, or a socket")
	case len(to.Socket) > 107: // unix(7): sun_path, with its NUL
		return nil, errors.New("h1: the socket's path is longer than 107 bytes")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 5 * time.Second
	}
	if cfg.IdleMax == 0 {
		cfg.IdleMax = 256
	}
	if cfg.IdleTimeout == 0 {
		cfg.IdleTimeout = 30 * time.Second
	}
	t := &Transport{cfg: cfg, authority: authority(to), names: newNames(&cfg)}
	for _, l := range pool.Loops() {
		t.shards = append(t.shards, newShard(t, l))
	}
	return t, nil
}

// authority is the value of the Host field (RFC 9110, section 7.2).
func authority(to upstream.Target) string {
	switch {
	case to.Host == "":
		return "localhost"
	case to.Port == 80 || to.Port == 0:
		if ip, err := netip.ParseAddr(to.Host); err == nil && ip.Is6() {
			return "[" + to.Host + "]"
		}
		return to.Host
	}
	return net.JoinHostPort(to.Host, strconv.Itoa(to.Port))
}

// Start implements upstream.Transport.
func (t *Transport) Start(l *loop.Loop, req *upstream.Request, to upstream.Receiver) upstream.Call {
	sh := t.shards[l.Index()]
	c := &call{sh: sh, to: to, req: req}
	sh.counts.calls.Add(1)
	sh.begin(c)
	return c
}

// Counts implements upstream.Transport.
func (t *Transport) Counts() upstream.Counts {
	var c upstream.Counts
	for _, sh := range t.shards {
		n := &sh.counts
		c.Open += n.open.Load()
		c.Idle += n.idle.Load()
		c.Calls += n.calls.Load()
		c.Paused += n.paused.Load()
		c.Dials += n.dials.Load()
		c.Reused += n.reused.Load()
		c.Retried += n.retried.Load()
		c.BytesIn += n.bytesIn.Load()
	}
	return c
}

// Close implements upstream.Transport.
func (t *Transport) Close() {
	var done sync.WaitGroup
	for _, sh := range t.shards {
		done.Add(1)
		if err := sh.loop.Post(func() { defer done.Done(); sh.close() }); err != nil {
			done.Done() // the loop has closed everything already
		}
	}
	t.names.close()
	done.Wait()
}

// appendHead encodes the request's head.
func (t *Transport) appendHead(dst []byte, req *upstream.Request) []byte {
	dst = append(dst, "POST "...)
	dst = append(dst, req.Path...)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, t.authority...)
	dst = append(dst, "\r\nAccept-Encoding: identity\r\n"...)
	for i := range req.Fields {
		dst = append(dst, req.Fields[i].Name...)
		dst = append(dst, ": "...)
		dst = append(dst, req.Fields[i].Value...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(req.Body)), 10)
	return append(dst, "\r\n\r\n"...)
}
