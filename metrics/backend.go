package metrics

import "slices"

// writeBackends writes what concerns backends that call an upstream. Where none
// is configured, none of the families is on the page: they would be fifty
// series that can never leave 0.
func (m *Metrics) writeBackends(p *page, s *Carried) {
	if len(s.Backends) == 0 {
		return
	}
	each := func(name string, k kind, help string, value func(b *Backend)) {
		p.family(name, k, help)
		for i := range s.Backends {
			value(&s.Backends[i])
		}
	}
	each("daemon_backend_requests_total", counter, "Completions asked for, those refused included.", func(b *Backend) {
		sample(p, "daemon_backend_requests_total", b.Requests, label{"backend", b.Name})
	})
	each("daemon_backend_errors_total", counter, "Completions that did not end well, by reason.", func(b *Backend) {
		for _, e := range b.Errors {
			sample(p, "daemon_backend_errors_total", e.Count, label{"backend", b.Name}, label{"reason", e.Reason})
		}
	})
	each("daemon_backend_tokens_total", counter, "Pieces of text relayed; most upstreams send one for each token.", func(b *Backend) {
		sample(p, "daemon_backend_tokens_total", b.Tokens, label{"backend", b.Name})
	})
	p.buckets(m.backend.name, m.backend.help, s.Backend)
	p.buckets(m.backendFirstByte.name, m.backendFirstByte.help, s.BackendFirstByte)

	var streams, open, idle int64
	for _, b := range s.Backends {
		streams += b.Streams
		open += b.Open
		idle += b.Idle
	}
	one(p, "daemon_upstream_streams", gauge, "Completions under way.", streams)
	p.family("daemon_upstream_connections", gauge, "Connections to upstreams: open, all of them; idle, those without a completion.")
	sample(p, "daemon_upstream_connections", open, label{"state", "open"})
	sample(p, "daemon_upstream_connections", idle, label{"state", "idle"})
}

// addBackends adds what a predecessor counted, by the names of backends and
// reasons: its configuration and its version may have had others.
func (c *Carried) addBackends(before []Backend) {
	c.Backends = slices.Clone(c.Backends)
	for _, b := range before {
		i := slices.IndexFunc(c.Backends, func(own Backend) bool { return own.Name == b.Name })
		if i < 0 {
			c.Backends = append(c.Backends, b)
			continue
		}
		own := &c.Backends[i]
		own.Requests += b.Requests
		own.Tokens += b.Tokens
		own.Streams += b.Streams
		own.Open += b.Open
		own.Idle += b.Idle
		own.Errors = slices.Clone(own.Errors)
		for _, e := range b.Errors {
			j := slices.IndexFunc(own.Errors, func(own BackendErrors) bool { return own.Reason == e.Reason })
			if j < 0 {
				own.Errors = append(own.Errors, e)
				continue
			}
			own.Errors[j].Count += e.Count
		}
	}
}

// endedBackends is before without what it holds no more.
func endedBackends(before []Backend) []Backend {
	ended := slices.Clone(before)
	for i := range ended {
		ended[i].Streams, ended[i].Open, ended[i].Idle = 0, 0, 0
	}
	return ended
}
