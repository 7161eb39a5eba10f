package openai

import (
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/h1"
	"streaming-daemon-go/sse/openai/h1tls"
	"streaming-daemon-go/sse/openai/h2"
	"streaming-daemon-go/sse/openai/upstream"
)

// newTransport makes what carries calls to a target (package upstream has the contract): HTTP/1.1 on the loops where
// nothing is encrypted, HTTP/2 where TLS is or where it is asked for, and HTTP/1.1 over TLS, on a bounded number of
// goroutines, for a server that does not choose HTTP/2.
func newTransport(pool *loop.Pool, to upstream.Target, o *Options) (upstream.Transport, error) {
	if !to.TLS && !to.PriorH2 {
		return h1.New(pool, h1.Config{
			Target:         to,
			ConnectTimeout: o.ConnectTimeout,
			IdleMax:        o.IdleConns,
			IdleTimeout:    o.IdleConnTimeout,
		})
	}
	cfg := h2.Config{Target: to, ConnectTimeout: o.ConnectTimeout, IdleTimeout: o.IdleConnTimeout}
	if to.TLS {
		fallback, err := h1tls.New(pool, h1tls.Config{
			Target:         to,
			ConnectTimeout: o.ConnectTimeout,
			IdleTimeout:    o.IdleConnTimeout,
		})
		if err != nil {
			return nil, err
		}
		cfg.Fallback = fallback
	}
	t, err := h2.New(pool, cfg)
	if err != nil {
		if cfg.Fallback != nil {
			cfg.Fallback.Close()
		}
		return nil, err
	}
	return t, nil
}
