package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"

	"streaming-daemon-go/cmd/streaming-daemon/config"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/metrics"
	"streaming-daemon-go/sse/demo"
	"streaming-daemon-go/sse/openai"
	"streaming-daemon-go/sse/stream"
)

// backends are those that the configuration asks for. Immutable once made.
type backends struct {
	origins map[string]*stream.Origin // by name; what a payload may choose among
	openai  *openai.Backend           // nil: not configured
}

// newBackends makes them over the loops of a pool. o is nil where the OpenAI backend is not configured.
func newBackends(cfg *config.Config, pool *loop.Pool, o *openai.Options) (b backends, err error) {
	b.origins = map[string]*stream.Origin{}
	if o != nil {
		if b.openai, err = openai.New(*o, pool); err != nil {
			return b, err
		}
		b.add("openai", b.openai.Make)
	}
	if usesBackend(cfg, "demo") {
		b.add("demo", demo.Maker(demo.Options{Delay: cfg.DemoDelay, Messages: cfg.DemoMessages}))
	}
	return b, nil
}

func (b *backends) add(name string, m stream.Maker) {
	b.origins[name] = &stream.Origin{Backend: name, NewBackend: m}
}

// usesBackend reports whether a backend is somebody's default.
func usesBackend(cfg *config.Config, name string) bool {
	for _, l := range cfg.Listeners {
		if l.Backend == name {
			return true
		}
	}
	return cfg.Backend == name
}

// choose finds the backend that a payload's `backend` names; without one, byDefault. The choice is made before there is
// a stream, so it costs none of them a byte. refusal is not nil exactly when there is no such backend.
func (b *backends) choose(p *fdrecv.Payload, byDefault *stream.Origin) (chosen *stream.Origin, refusal *stream.Refusal) {
	value := p.Field("backend")
	if value == nil || bytes.Equal(value, []byte("null")) { // PHP writes one for each unset variable
		return byDefault, nil
	}
	var name string
	if json.Unmarshal(value, &name) != nil {
		return nil, &stream.Refusal{Status: http.StatusBadRequest, Message: "backend is not a string"}
	}
	chosen, ok := b.origins[name]
	if !ok {
		return nil, &stream.Refusal{Status: http.StatusBadRequest, Message: "backend is not known here"}
	}
	return chosen, nil
}

// close ends what the backends have open. Not from a loop; twice is safe.
func (b *backends) close() {
	if b.openai != nil {
		b.openai.Close()
	}
}

// openaiOptions are what the configuration, the files that it names and the environment say of the OpenAI backend; nil:
// it is not configured, which is to say that nothing has it for a default and neither an upstream nor a key is set.
func openaiOptions(cfg *config.Config, getenv func(string) string) (*openai.Options, error) {
	key, err := openai.LoadKey(getenv, openai.KeyEnv, openai.KeyFileEnv)
	if err != nil {
		return nil, err
	}
	if !usesBackend(cfg, "openai") && !key.IsSet() && cfg.OpenAIBase == "" && cfg.OpenAISocket == "" && cfg.OpenAIProfiles == "" {
		return nil, nil
	}
	relay, err := openai.ParseMode(cfg.OpenAIRelay)
	if err != nil {
		return nil, err
	}
	o := &openai.Options{
		Profile: openai.Profile{
			Base: cfg.OpenAIBase, Socket: cfg.OpenAISocket, InsecureTLS: cfg.OpenAIInsecureTLS, PriorH2: cfg.OpenAIH2C,
			Key: key, KeyHeader: cfg.OpenAIKeyHeader, Relay: relay, Model: cfg.DefaultModel,
		},
		ConnectTimeout:     cfg.OpenAIConnectTimeout,
		FirstByteTimeout:   cfg.OpenAIFirstByteTimeout,
		IdleTimeout:        cfg.OpenAIIdleTimeout,
		TotalTimeout:       cfg.OpenAITotalTimeout,
		HeadTimeout:        cfg.HeadTimeout,
		MaxUpstreamStreams: cfg.MaxUpstreamStreams,
		IdleConns:          cfg.OpenAIIdleConns,
		IdleConnTimeout:    cfg.OpenAIIdleConnTimeout,
	}
	if path := cfg.OpenAIProfiles; path != "" {
		if o.Profiles, err = config.ReadProfiles(path, getenv); err != nil {
			return nil, fmt.Errorf("-openai-profiles: %w", err)
		}
	}
	return o, nil
}

// Connections that a transport over TLS or HTTP/2 makes at most to one upstream: the defaults of packages h2 and h1tls.
const (
	h2Conns    = 256 // streams share them
	h1tlsConns = 256 // where a server over TLS offers no HTTP/2
)

// upstreamNeed is what completions may need of the limit on open files, beside the clients.
type upstreamNeed struct {
	conns     int // connections with a completion, over all upstreams, at most; never more than completions
	pools     int // upstreams whose idle connections are kept by each loop
	idleConns int // kept by one such pool, if it could be as asked
}

// needOf adds up the upstreams of o; nil: none.
func needOf(o *openai.Options) (n upstreamNeed) {
	if o == nil {
		return n
	}
	n.idleConns = o.IdleConns
	n.add(&o.Profile)
	for _, p := range o.Profiles {
		if p.Base != "" || p.Socket != "" { // otherwise it has the default's
			n.add(&p)
		}
	}
	if o.MaxUpstreamStreams > 0 {
		n.conns = min(n.conns, o.MaxUpstreamStreams)
	}
	return n
}

func (n *upstreamNeed) add(p *openai.Profile) {
	u, err := url.Parse(p.Base)
	switch {
	case err != nil: // refused elsewhere
	case u.Scheme == "https", p.Base == "" && p.Socket == "":
		n.conns += h2Conns + h1tlsConns
	case p.PriorH2:
		n.conns += h2Conns
	default: // a connection for each completion
		n.conns = math.MaxInt32
		n.pools++
	}
	n.conns = min(n.conns, math.MaxInt32)
}

// observeCompletions has o tell of each completion, on its loop.
func (d *daemon) observeCompletions(o *openai.Options) {
	o.Log = d.log
	o.FirstByte = d.metrics.ObserveBackendFirstByte
	o.Ended = func(e openai.End) {
		d.metrics.ObserveBackend(e.Duration)
		if d.log.Enabled(context.Background(), slog.LevelDebug) { // as in streamEnded
			d.log.Debug("completion ended", "reason", e.Reason.String(), "status", e.Status, "duration", e.Duration,
				"first_byte", e.FirstByte, "tokens", e.Contents)
		}
	}
}

// snapshot is what the metrics page shows of the backends. Any goroutine.
func (b *backends) snapshot() []metrics.Backend {
	if b.openai == nil {
		return nil
	}
	c := b.openai.Counts()
	s := metrics.Backend{Name: "openai", Requests: c.Requests, Tokens: c.Contents, Streams: c.Streams,
		Open: c.Upstream.Open, Idle: c.Upstream.Idle}
	for r := openai.None + 1; r < openai.NumReasons; r++ {
		s.Errors = append(s.Errors, metrics.BackendErrors{Reason: r.String(), Count: c.Ended[r]})
	}
	return []metrics.Backend{s}
}
