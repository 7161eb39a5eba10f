package h1

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"streaming-daemon-go/sse/openai/upstream"
)

const (
	nameFresh  = 30 * time.Second // how long an answer is used without asking again
	nameFailed = time.Second      // how long a failure is
	nameStale  = 10 * time.Minute // how old an answer may be used when there is no newer one: an outage of the name service
)

// names resolves the target's one name, off the loops: one goroutine at a time, only while a lookup is under way.
type names struct {
	host    string                                                       // immutable
	port    uint16                                                       // immutable
	fixed   addresses                                                    // immutable; not nil when host needs no lookup
	lookup  func(ctx context.Context, host string) ([]netip.Addr, error) // immutable
	timeout time.Duration                                                // immutable
	ctx     context.Context                                              // ends with close
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex // held for a few instructions
	addrs   addresses  // the last answer; replaced, never written to
	asked   time.Time  // when addrs came
	until   time.Time  // what is known holds until then
	err     error      // of the last lookup
	waiting []*shard   // to be told; a lookup is under way exactly while it is not empty
}

func newNames(cfg *Config) *names {
	n := &names{host: cfg.Target.Host, port: uint16(cfg.Target.Port), lookup: cfg.Lookup, timeout: cfg.ConnectTimeout}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if cfg.Target.Socket != "" {
		n.fixed = addresses{}
	} else if ip, err := netip.ParseAddr(n.host); err == nil {
		n.fixed = addresses{netip.AddrPortFrom(ip.Unmap(), n.port)}
	}
	if n.lookup == nil {
		n.lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	return n
}

// get gives the addresses, or the error of the lookup; ok is false while neither is known: then sh.resolved is posted
// when they are. Called by sh's loop.
func (n *names) get(sh *shard) (addrs addresses, err error, ok bool) {
	if n.fixed != nil {
		return n.fixed, nil, true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if time.Now().Before(n.until) {
		return n.addrs, n.err, true
	}
	if len(n.waiting) == 0 {
		if n.ctx.Err() != nil {
			return nil, upstream.ErrClosed, true
		}
		n.running.Add(1)
		go n.ask()
	}
	if !slices.Contains(n.waiting, sh) {
		n.waiting = append(n.waiting, sh)
	}
	return nil, nil, false
}

// ask makes one lookup and tells who waits for it.
func (n *names) ask() {
	defer n.running.Done()
	ctx, cancel := context.WithTimeout(n.ctx, n.timeout)
	defer cancel()
	ips, err := n.lookup(ctx, n.host)
	if err == nil && len(ips) == 0 {
		err = &net.DNSError{Err: "no address", Name: n.host, IsNotFound: true}
	}
	for _, sh := range n.learn(ips, err) {
		_ = sh.loop.Post(sh.resolved) // ErrClosed: nobody waits there any more
	}
}

// learn takes a lookup's result over and gives who waits for it.
func (n *names) learn(ips []netip.Addr, err error) []*shard {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	switch {
	case err == nil:
		n.addrs = make(addresses, 0, len(ips))
		for _, ip := range ips {
			n.addrs = append(n.addrs, netip.AddrPortFrom(ip.Unmap(), n.port))
		}
		n.asked, n.until, n.err = now, now.Add(nameFresh), nil
	case n.addrs != nil && now.Sub(n.asked) < nameStale:
		n.until, n.err = now.Add(nameFailed), nil
	default:
		n.addrs, n.until = nil, now.Add(nameFailed)
		n.err = fmt.Errorf("%w: %w", upstream.ErrResolve, err)
	}
	waiting := n.waiting
	n.waiting = nil
	return waiting
}

// prefer puts a, to which a connection was made after others had failed, in front for the next ones.
func (n *names) prefer(a netip.AddrPort) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.Index(n.addrs, a)
	if i <= 0 {
		return
	}
	n.addrs = slices.Concat(addresses{a}, n.addrs[:i], n.addrs[i+1:])
}

// close ends a lookup under way and waits for its goroutine.
func (n *names) close() {
	n.cancel()
	n.running.Wait()
}
