package openai

import (
	"errors"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/h1"
	"streaming-daemon-go/sse/openai/upstream"
)

// errNoTransport: the upstream speaks what nothing here carries yet.
var errNoTransport = errors.New("openai: https and h2c are not supported by this build: the base must be http, or a Unix socket")

// newTransport makes what carries calls to a target; package upstream has the contract.
func newTransport(pool *loop.Pool, to upstream.Target, o *Options) (upstream.Transport, error) {
	if to.TLS || to.PriorH2 {
		return nil, errNoTransport
	}
	return h1.New(pool, h1.Config{
		Target:         to,
		ConnectTimeout: o.ConnectTimeout,
		IdleMax:        o.IdleConns,
		IdleTimeout:    o.IdleConnTimeout,
	})
}
