package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/stream"
)

// Backend makes the streams of one process. Make it with New, give Make to the stream.Server, and Close it after the
// last stream.
type Backend struct {
	opt        Options // immutable
	byDefault  *profile
	profiles   map[string]*profile // immutable
	transports map[upstream.Target]upstream.Transport
	shards     []*shard     // immutable; by loop index
	streams    atomic.Int64 // completions under way, over all loops
}

// shard is what the relays of one loop share.
type shard struct {
	b    *Backend   // immutable
	loop *loop.Loop // immutable

	// owned by the loop
	log logLimit

	requests, contents, events atomic.Uint64
	ended                      [NumReasons]atomic.Uint64
}

// New checks the options and makes a backend over all loops of a pool. It opens nothing yet. The error names no secret.
func New(o Options, pool *loop.Pool) (*Backend, error) {
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	b := &Backend{opt: o, profiles: make(map[string]*profile), transports: make(map[upstream.Target]upstream.Transport)}
	var err error
	if b.byDefault, err = b.profile(pool, &o.Profile); err == nil {
		for name, p := range o.Profiles {
			p = p.inherit(&o.Profile)
			if b.profiles[name], err = b.profile(pool, &p); err != nil {
				err = fmt.Errorf("profile %q: %w", name, err)
				break
			}
		}
	}
	if err != nil {
		b.Close()
		return nil, err
	}
	for _, l := range pool.Loops() {
		b.shards = append(b.shards, &shard{b: b, loop: l})
	}
	return b, nil
}

// profile makes a profile ready. Profiles with the same target share a transport, and so its connections.
func (b *Backend) profile(pool *loop.Pool, p *Profile) (*profile, error) {
	ready, to, err := p.prepare()
	if err != nil {
		return nil, err
	}
	if to.InsecureTLS && to.TLS {
		b.opt.Log.Warn("the upstream's certificate is NOT verified (-openai-insecure-tls): whoever is in between reads prompts and the key",
			"host", to.Host)
	}
	t, ok := b.transports[to]
	if !ok {
		if t, err = newTransport(pool, to, &b.opt); err != nil {
			return nil, err
		}
		b.transports[to] = t
	}
	ready.transport = t
	return ready, nil
}

// Make is the stream.Maker.
func (b *Backend) Make(l *loop.Loop) stream.Backend {
	return &relay{sh: b.shards[l.Index()]}
}

// Close ends the transports, idle connections first; streams should have ended. Any goroutine but a loop's; twice is
// safe.
func (b *Backend) Close() {
	for _, t := range b.transports {
		t.Close()
	}
}

// Counts is what a Backend has counted.
type Counts struct {
	Requests uint64             // completions asked for, those refused included
	Ended    [NumReasons]uint64 // how they ended, by Reason
	Streams  int64              // completions under way
	Contents uint64             // pieces of text relayed; one is about a token
	Events   uint64             // events of the upstream
	Upstream upstream.Counts    // over all transports
}

// Counts reads the state. Any goroutine.
func (b *Backend) Counts() Counts {
	c := Counts{Streams: b.streams.Load()}
	for _, sh := range b.shards {
		c.Requests += sh.requests.Load()
		c.Contents += sh.contents.Load()
		c.Events += sh.events.Load()
		for r := range sh.ended {
			c.Ended[r] += sh.ended[r].Load()
		}
	}
	for _, t := range b.transports {
		n := t.Counts()
		c.Upstream.Open += n.Open
		c.Upstream.Idle += n.Idle
		c.Upstream.Calls += n.Calls
		c.Upstream.Paused += n.Paused
		c.Upstream.Dials += n.Dials
		c.Upstream.Reused += n.Reused
		c.Upstream.Retried += n.Retried
		c.Upstream.BytesIn += n.BytesIn
	}
	return c
}

// enter takes one of the places for completions; false: there is none.
func (b *Backend) enter() bool {
	n := b.streams.Add(1)
	if limit := b.opt.MaxUpstreamStreams; limit > 0 && n > int64(limit) {
		b.streams.Add(-1)
		return false
	}
	return true
}

func (b *Backend) leave() { b.streams.Add(-1) }

// choose finds the profile that a payload names; without one, the default.
func (b *Backend) choose(name []byte) (*profile, error) {
	if name == nil {
		return b.byDefault, nil
	}
	var s string
	if json.Unmarshal(name, &s) != nil {
		return nil, bad("profile", "is not a string")
	}
	p, ok := b.profiles[s]
	if !ok {
		return nil, bad("profile", "is not known here")
	}
	return p, nil
}

// warn logs what went wrong with an upstream, one line a second and loop: an upstream that is down fails every stream.
func (sh *shard) warn(reason Reason, status int, code string, err error) {
	withheld, ok := sh.log.allow(sh.loop.Now())
	if !ok {
		return
	}
	args := []any{"reason", reason.String()}
	if status != 0 {
		args = append(args, "status", status)
	}
	if code != "" {
		args = append(args, "code", code)
	}
	if err != nil {
		args = append(args, "error", err)
	}
	if withheld > 0 {
		args = append(args, "more_since_last_line", withheld)
	}
	sh.b.opt.Log.Warn("a completion failed", args...)
}

// logLimit lets one line a second through. Loop goroutine only.
type logLimit struct {
	next     time.Duration // loop clock
	withheld int
}

func (l *logLimit) allow(now time.Duration) (withheld int, ok bool) {
	if now < l.next {
		l.withheld++
		return 0, false
	}
	withheld, l.withheld, l.next = l.withheld, 0, now+time.Second
	return withheld, true
}

var errNoEvents = errors.New("the response is not an event stream")
