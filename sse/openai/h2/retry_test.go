package h2_test

import (
	"errors"
	"testing"

	"golang.org/x/net/http2"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/upstream"
)

// TestGoAway: streams up to the last one that the server names are finished there; the others go to another connection,
// once, and nobody notices.
func TestGoAway(t *testing.T) {
	fdtest.NoLeaks(t)
	again := make(chan *asked, 1)
	s := startScript(t, func(p *peer) {
		p.greet()
		if p.n == 2 {
			r := p.request()
			again <- r
			p.answer(r.id, "moved")
			p.next()
			return
		}
		for range 3 {
			p.request()
		}
		p.ok(1)
		_ = p.fr.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil) // the announcement, as servers that shut down in order send it
		_ = p.fr.WriteGoAway(3, http2.ErrCodeNo, nil)
		p.answer(3, "three")
		p.data(1, true, "one")
		if f := p.next(); f != nil {
			if _, ok := f.(*http2.GoAwayFrame); !ok {
				t.Errorf("the drained connection goes on with %v", f)
			}
		}
	})
	r := newRig(t, 1, s.config())
	var callers []*caller
	for _, body := range []string{"a", "b", "c"} {
		callers = append(callers, r.start(body))
	}
	mustComplete(t, callers[0].wait(), "one")
	mustComplete(t, callers[1].wait(), "three")
	mustComplete(t, callers[2].wait(), "moved")
	if got := await(t, again, "the request again"); got.body != "c" {
		t.Errorf("sent again: %+v", got)
	}
	r.settled(1)
	if c := r.tr.Counts(); c.Dials != 2 || c.Retried != 1 {
		t.Errorf("%+v", c)
	}
}

// TestRefused: what a server has not looked at is sent once more and not twice.
func TestRefused(t *testing.T) {
	refuse := func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeRefusedStream) }
	goAway := func(p *peer, id uint32) { _ = p.fr.WriteGoAway(id-1, http2.ErrCodeNo, nil) }
	tests := []struct {
		name     string
		times    int64 // how many requests are refused
		how      func(p *peer, id uint32)
		requests int64
		err      error
	}{
		{"REFUSED_STREAM once", 1, refuse, 2, nil},
		{"REFUSED_STREAM twice", 2, refuse, 2, upstream.ErrRefused},
		{"GOAWAY once", 1, goAway, 2, nil},
		{"GOAWAY twice", 2, goAway, 2, upstream.ErrRefused},
		{"after the head", 1, func(p *peer, id uint32) { p.ok(id); refuse(p, id) }, 1, upstream.ErrBroken},
		{"GOAWAY after the head", 1, func(p *peer, id uint32) { p.ok(id); goAway(p, id) }, 1, upstream.ErrBroken},
		{"another code", 1, func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeInternal) }, 1, upstream.ErrBroken},
		{"no error", 1, func(p *peer, id uint32) { p.ok(id); _ = p.fr.WriteRSTStream(id, http2.ErrCodeNo) }, 1, upstream.ErrBroken},
		{"HTTP_1_1_REQUIRED", 1, func(p *peer, id uint32) { _ = p.fr.WriteRSTStream(id, http2.ErrCodeHTTP11Required) }, 1, upstream.ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, func(p *peer) {
				p.greet()
				for r := p.request(); r != nil; r = p.request() {
					if p.s.requests.Load() <= tt.times {
						tt.how(p, r.id)
					} else {
						p.answer(r.id, "hello")
					}
				}
			})
			r := newRig(t, 1, s.config())
			a := r.start("{}").wait()
			if !errors.Is(a.err, tt.err) || (tt.err == nil) != (a.err == nil) {
				t.Error(a)
			}
			if n := s.requests.Load(); n != tt.requests {
				t.Errorf("the server read %d requests, want %d", n, tt.requests)
			}
			if c := r.tr.Counts(); c.Retried != uint64(tt.requests-1) {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestGoAwayAtOnce: a server that ends every connection as it greets has no call for ever.
func TestGoAwayAtOnce(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet()
		_ = p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)
		for p.any() != nil {
		}
	})
	r := newRig(t, 1, s.config())
	mustFail(t, r.start("{}").wait(), upstream.ErrRefused)
	if c := r.tr.Counts(); c.Dials < 2 || c.Dials > 6 {
		t.Errorf("%+v", c)
	}
}

// TestStale: the server ends a kept connection at the very moment at which a call is sent on it. The call is sent once
// more, unless anything came that may mean that the server has seen it.
func TestStale(t *testing.T) {
	tests := []struct {
		name     string
		second   func(p *peer, id uint32) // what the first connection does with its second request before it ends
		requests int64
		err      error
	}{
		{"FIN", func(*peer, uint32) {}, 3, nil},
		{"a frame first", func(p *peer, _ uint32) { _ = p.fr.WritePing(false, [8]byte{}) }, 2, upstream.ErrBroken},
		{"a head first", func(p *peer, id uint32) { p.ok(id) }, 2, upstream.ErrBroken},
		{"not HTTP/2", func(p *peer, _ uint32) { _, _ = p.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }, 2, upstream.ErrProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, func(p *peer) {
				p.greet()
				if p.n > 1 {
					p.serveAll()
					return
				}
				p.answer(p.request().id, "hello")
				tt.second(p, p.request().id)
			})
			r := newRig(t, 1, s.config())
			mustComplete(t, r.start("").wait(), "hello")
			a := r.start("").wait()
			if !errors.Is(a.err, tt.err) || (tt.err == nil) != (a.err == nil) {
				t.Error(a)
			}
			if n := s.requests.Load(); n != tt.requests {
				t.Errorf("the server read %d requests, want %d", n, tt.requests)
			}
		})
	}
	t.Run("a new connection", func(t *testing.T) { // it was not dead before: the server may be at work
		fdtest.NoLeaks(t)
		s := startScript(t, func(p *peer) { p.greet(); p.request() })
		r := newRig(t, 1, s.config())
		mustFail(t, r.start("").wait(), upstream.ErrBroken)
		if n := s.requests.Load(); n != 1 {
			t.Errorf("the server read %d requests", n)
		}
	})
}

// TestCancelBetween: a call that is cancelled at the very moment at which its connection gives it up is not sent again.
func TestCancelBetween(t *testing.T) {
	for name, cancelled := range map[string]bool{"cancelled": true, "wanted": false} {
		t.Run(name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, func(p *peer) {
				p.greet()
				p.request()
				p.serveAll()
			})
			r := newRig(t, 1, s.config())
			c := r.start("")
			fdtest.Eventually(t, "the request", func() bool { return s.requests.Load() == 1 })
			r.tr.Forget(c.call)
			if cancelled {
				r.on(0, c.call.Cancel)
			}
			if !r.tr.Again(c.call) {
				t.Error("the transport is closed")
			}
			mustComplete(t, r.start("last").wait(), "hellolast")
			want := int64(2)
			if !cancelled {
				mustComplete(t, c.wait(), "hello")
				want = 3
			}
			if n := s.requests.Load(); n != want {
				t.Errorf("%d requests", n)
			}
			r.settled(1)
		})
	}
}
