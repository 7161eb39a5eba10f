package h1_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/h1"
	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/openai/upstreamtest"
)

const (
	head     = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	chunked  = head + "Transfer-Encoding: chunked\r\n\r\n"
	hello    = chunked + "5\r\nhello\r\n0\r\n\r\n"
	helloLen = head + "Content-Length: 5\r\n\r\nhello"
)

// always answers every request of a connection with the same bytes.
func always(reply string) func(*upstreamtest.Conn) {
	return func(c *upstreamtest.Conn) {
		for c.Request() != nil && c.Write(reply) {
		}
	}
}

func mustComplete(t testing.TB, a *answer, body string) {
	t.Helper()
	if a.err != nil || a.status != 200 || string(a.body) != body {
		t.Fatalf("%v; want body %q", a, body)
	}
}

// TestRequestBytes: what the upstream reads, over TCP and over a Unix socket, is the request that was meant.
func TestRequestBytes(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			fdtest.NoLeaks(t)
			got := make(chan *upstreamtest.Request, 1)
			s := upstreamtest.Start(t, network, func(c *upstreamtest.Conn) {
				got <- c.Request()
				c.Write(hello)
			})
			to, host := upstream.Target{Socket: s.Addr, Host: "llm.local"}, "llm.local"
			if network == "tcp" {
				to = target(s)
				host = s.Addr
			}
			r := newRig(t, h1.Config{Target: to})
			mustComplete(t, r.start(`{"model":"m"}`, nil, nil).wait(), "hello")
			req := await(t, got, "the request")
			if req.Method != "POST" || req.RequestURI != "/v1/chat/completions?x=y" || req.Host != host || req.Text != `{"model":"m"}` ||
				req.ContentLength != 13 || req.Header.Get("Authorization") != "Bearer k" || req.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("%v, body %q", req.Request, req.Text)
			}
		})
	}
}

// TestResponseCutAnywhere: the real socket path reads a response that comes byte by byte.
func TestResponseCutAnywhere(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
		for c.Request() != nil && c.WriteBytewise("HTTP/1.1 100 Continue\r\n\r\n"+hello) {
		}
	})
	r := newRig(t, h1.Config{Target: target(s)})
	for range 3 {
		mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
	}
	r.idle(1)
	if n := s.Accepted.Load(); n != 1 {
		t.Errorf("%d connections for three calls", n)
	}
	if c := r.tr.Counts(); c.Dials != 1 || c.Reused != 2 || c.Retried != 0 || c.BytesIn != 15 {
		t.Errorf("%+v", c)
	}
}

// TestKeepAlive: which connections serve another call, and that the pool keeps to its bounds.
func TestKeepAlive(t *testing.T) {
	for _, tt := range []struct {
		name, reply string
		kept        int64
	}{
		{"chunked", hello, 1},
		{"length", helloLen, 1},
		{"close", strings.Replace(helloLen, "Content-Type", "Connection: close\r\nContent-Type", 1), 0},
		{"extra bytes", helloLen + "HTTP/1.1 200 OK\r\n", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := upstreamtest.Start(t, "tcp", always(tt.reply))
			r := newRig(t, h1.Config{Target: target(s)})
			mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
			r.idle(tt.kept)
			mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
			r.idle(tt.kept)
			if n := s.Accepted.Load(); n != 2-tt.kept {
				t.Errorf("%d connections for two calls", n)
			}
		})
	}
}

// TestIdleBounds: no more connections than the bound are kept, none when it is negative, and each for its time only.
func TestIdleBounds(t *testing.T) {
	fdtest.NoLeaks(t)
	const calls = 5
	for _, tt := range []struct {
		cfg  h1.Config
		kept int64
	}{
		{h1.Config{IdleMax: 2}, 2},
		{h1.Config{IdleMax: -1}, 0},
		{h1.Config{IdleTimeout: 20 * time.Millisecond}, 0},
	} {
		now := make(chan struct{})
		s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
			c.Request()
			c.Wait(now)
			c.Write(hello)
			c.Gone()
		})
		tt.cfg.Target = target(s)
		r := newRig(t, tt.cfg)
		var all []*caller
		for range calls {
			all = append(all, r.start("{}", nil, nil))
		}
		close(now) // each has a connection of its own by now
		for _, c := range all {
			mustComplete(t, c.wait(), "hello")
		}
		r.idle(tt.kept)
	}
}

// TestUpstreamClosesIdle: a kept connection that its upstream closes, or that says something unasked, is let go.
func TestUpstreamClosesIdle(t *testing.T) {
	for name, end := range map[string]func(*upstreamtest.Conn){
		"FIN":   func(*upstreamtest.Conn) {},
		"RST":   (*upstreamtest.Conn).Reset,
		"bytes": func(c *upstreamtest.Conn) { c.Write("HTTP/1.1 408 Request Timeout\r\n\r\n"); c.Gone() },
	} {
		t.Run(name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			now := make(chan struct{})
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				c.Request()
				c.Write(hello)
				c.Wait(now)
				end(c)
			})
			r := newRig(t, h1.Config{Target: target(s)})
			mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
			r.idle(1)
			close(now)
			r.idle(0)
		})
	}
}

// TestStaleConnection: the upstream closes a kept connection at the very moment at which a call is sent on it. The call
// is sent once more, on a new connection; unless part of a response came, or the new one fails as well.
func TestStaleConnection(t *testing.T) {
	tests := []struct {
		name     string
		second   string // what the first connection answers to its second request before it ends
		reset    bool
		others   string // what a later connection answers
		requests int64
		err      error
	}{
		{"FIN", "", false, hello, 3, nil},
		{"RST", "", true, hello, 3, nil},
		{"part of a status line", "HT", false, hello, 2, upstream.ErrBroken},
		{"an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n", false, hello, 2, upstream.ErrBroken},
		{"the new one ends too", "", false, "", 3, upstream.ErrBroken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				c.Request()
				if c.N > 1 {
					c.Write(tt.others)
					return
				}
				c.Write(hello)
				c.Request()
				c.Write(tt.second)
				if tt.reset {
					c.Reset()
				}
			})
			r := newRig(t, h1.Config{Target: target(s)})
			mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
			r.idle(1)
			a := r.start(`{"second":true}`, nil, nil).wait()
			if !errors.Is(a.err, tt.err) || (tt.err == nil) != (a.err == nil) {
				t.Fatal(a)
			}
			if n := s.Requests.Load(); n != tt.requests {
				t.Errorf("the upstream read %d requests, want %d", n, tt.requests)
			}
			if c := r.tr.Counts(); int64(c.Retried) != tt.requests-2 {
				t.Errorf("%+v", c)
			}
		})
	}
}

// TestNoRetryOnAFreshConnection: a request that its upstream may have acted upon is not sent again.
func TestNoRetryOnAFreshConnection(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) { c.Request() })
	r := newRig(t, h1.Config{Target: target(s)})
	a := r.start("{}", nil, nil).wait()
	if !errors.Is(a.err, upstream.ErrBroken) || s.Requests.Load() != 1 {
		t.Fatal(a, s.Requests.Load())
	}
	r.idle(0)
}

// TestLargeRequest: a body that no socket buffer holds goes out under backpressure, whole.
func TestLargeRequest(t *testing.T) {
	fdtest.NoLeaks(t)
	body := strings.Repeat("0123456789abcde\n", 1<<19) // 8 MiB
	var same atomic.Bool
	s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
		for req := c.Request(); req != nil; req = c.Request() {
			same.Store(req.Text == body)
			c.Write(hello)
		}
	})
	r := newRig(t, h1.Config{Target: target(s)})
	for range 2 { // on a new connection, and on a kept one
		same.Store(false)
		mustComplete(t, r.start(body, nil, nil).wait(), "hello")
		if !same.Load() {
			t.Fatal("another body arrived")
		}
		r.idle(1)
	}
}

// TestAnswerBeforeTheRequest: an upstream that refuses a request before it has read all of it, and closes or not. Its
// answer counts, and the connection is not used again.
func TestAnswerBeforeTheRequest(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprint("closes=", closes), func(t *testing.T) {
			fdtest.NoLeaks(t)
			over := make(chan struct{})
			defer close(over)
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				c.Write("HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
				if closes {
					c.CloseWrite()
				}
				<-over // it reads nothing, or all might be sent before the answer is seen; and a close now, with bytes
				// unread, would be a RST and take the answer with it
			})
			r := newRig(t, h1.Config{Target: target(s)})
			a := r.start(strings.Repeat("x", 32<<20), nil, nil).wait() // more than the kernel holds for both ends
			if a.err != nil || a.status != 413 || string(a.body) != "no" {
				t.Fatal(a)
			}
			r.idle(0)
		})
	}
}

// TestBroken: what ends a call in the middle.
func TestBroken(t *testing.T) {
	tests := []struct {
		name, reply string
		body        string
		err         error
	}{
		{"no answer", "", "", upstream.ErrBroken},
		{"half a head", head, "", upstream.ErrBroken},
		{"within a chunk", chunked + "5\r\nhel", "hel", upstream.ErrBroken},
		{"no last chunk", chunked + "5\r\nhello\r\n", "hello", upstream.ErrBroken},
		{"within a length", head + "Content-Length: 9\r\n\r\nhello", "hello", upstream.ErrBroken},
		{"bad chunk", chunked + "5\r\nhello\r\nzz", "hello", upstream.ErrProtocol},
		{"not HTTP", "220 smtp ready\r\n", "", upstream.ErrProtocol},
		{"until close", head + "\r\nhello", "hello", nil},
	}
	for _, tt := range tests {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, reset=%v", tt.name, reset), func(t *testing.T) {
				fdtest.NoLeaks(t)
				seen := make(chan struct{}, 1)
				s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
					c.Request()
					c.Write(tt.reply)
					if reset {
						if tt.body != "" {
							c.Wait(seen) // a RST overtakes what was not read
						}
						c.Reset()
					}
				})
				r := newRig(t, h1.Config{Target: target(s)})
				a := r.start("{}", nil, func(c *caller, _ []byte) {
					if len(c.body) == len(tt.body) {
						seen <- struct{}{}
					}
				}).wait()
				want := tt.err
				if reset && want == nil {
					want = upstream.ErrBroken
				}
				if !errors.Is(a.err, want) || (want == nil) != (a.err == nil) || string(a.body) != tt.body {
					t.Fatalf("%v; want %q, %v", a, tt.body, want)
				}
				r.idle(0)
			})
		}
	}
}

// TestPause: a paused call reads nothing, so that the upstream's writes stop; what it sent, its end included, is all
// there after Resume. Large bodies, several pauses, and one pause over the end.
func TestPause(t *testing.T) {
	for _, framing := range []string{"close", "length"} {
		t.Run(framing, func(t *testing.T) {
			fdtest.NoLeaks(t)
			body := bytes.Repeat([]byte("0123456789abcde\n"), 1<<19) // 8 MiB, more than both socket buffers
			var written atomic.Int64
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				c.Request()
				if framing == "length" {
					c.Write(fmt.Sprintf("%sContent-Length: %d\r\n\r\n", head, len(body)))
				} else {
					c.Write(head + "\r\n")
				}
				for b := body; len(b) > 0; b = b[1<<14:] {
					if !c.Write(string(b[:1<<14])) {
						return
					}
					written.Add(1 << 14)
				}
			})
			r := newRig(t, h1.Config{Target: target(s)})
			pauses := 0
			c := r.start("{}", nil, func(c *caller, _ []byte) {
				if len(c.body) > pauses<<20 { // each MiB
					pauses++
					c.call.Pause()
					c.call.Pause() // twice is safe
				}
			})
			for n := 1; n <= 8; n++ {
				paused := func() bool { return r.tr.Counts().Paused == 1 }
				fdtest.Eventually(t, "a pause", paused)
				r.on(func() {}) // the turn of the pause is over
				before := len(c.heard().body)
				waitForStall(t, &written)
				r.on(func() {})
				if got := c.heard(); len(got.body) != before || got.ends != 0 {
					t.Fatalf("while paused: %d bytes more, %d ends", len(got.body)-before, got.ends)
				}
				if over := before - (n-1)<<20; over > h1.ReadBytes+1 {
					t.Errorf("%d bytes came after the pause was called for", over)
				}
				r.on(func() { c.call.Resume(); c.call.Resume() })
			}
			if a := c.wait(); a.err != nil || !bytes.Equal(a.body, body) {
				t.Fatalf("%d of %d bytes, %v", len(a.body), len(body), a.err)
			}
			if framing == "close" {
				r.idle(0)
			}
		})
	}
}

// waitForStall waits until the upstream has written all, or has not been able to write for a while: its buffers are full.
func waitForStall(t *testing.T, written *atomic.Int64) {
	t.Helper()
	last, same := int64(-1), 0
	fdtest.Eventually(t, "a stalled upstream", func() bool {
		if now := written.Load(); now == last {
			same++
		} else {
			last, same = now, 0
		}
		return same > 30 // polls, a millisecond apart
	})
}

// TestEndWhilePaused: FIN and RST of an upstream while its call is paused. Unread bytes follow the FIN's Resume; a RST
// is told then and not before.
func TestEndWhilePaused(t *testing.T) {
	for _, reset := range []bool{false, true} {
		t.Run(fmt.Sprint("reset=", reset), func(t *testing.T) {
			fdtest.NoLeaks(t)
			paused, sent := make(chan struct{}), make(chan struct{})
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				c.Request()
				c.Write(head + "\r\nhel")
				c.Wait(paused)
				c.Write("lo")
				if reset {
					c.Reset()
				} else {
					_ = c.Close()
				}
				close(sent)
			})
			r := newRig(t, h1.Config{Target: target(s)})
			c := r.start("{}", nil, func(c *caller, _ []byte) {
				if len(c.body) == 3 {
					c.call.Pause()
					close(paused)
				}
			})
			await(t, sent, "the end")
			r.on(func() {})
			r.on(func() {})
			if a := c.heard(); a.ends != 0 || string(a.body) != "hel" {
				t.Fatalf("while paused: %v", a)
			}
			r.on(c.call.Resume)
			a := c.wait()
			if !reset {
				mustComplete(t, a, "hello")
			} else if !errors.Is(a.err, upstream.ErrBroken) {
				t.Fatal(a)
			}
			r.idle(0)
		})
	}
}

// TestPauseBeforeTheHead holds the body back, not the head.
func TestPauseBeforeTheHead(t *testing.T) {
	fdtest.NoLeaks(t)
	now := make(chan struct{})
	s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
		c.Request()
		c.Wait(now)
		c.Write(chunked)
		c.Gone()
	})
	r := newRig(t, h1.Config{Target: target(s)})
	headed := make(chan struct{})
	c := r.start("{}", func(*caller) { close(headed) }, nil)
	r.on(c.call.Pause)
	close(now)
	await(t, headed, "the head")
	fdtest.Eventually(t, "the pause", func() bool { return r.tr.Counts().Paused == 1 })
	r.on(c.call.Cancel)
	r.idle(0)
}

// TestCancel ends the connection at once, at any time, and nothing is heard after it.
func TestCancel(t *testing.T) {
	tests := []struct {
		name, reply string
		cancel      func(r *rig, c *caller) // nil: within Head or Body
		inHead      bool
		inBody      bool
	}{
		{"before the answer", "", func(r *rig, c *caller) { r.on(c.call.Cancel) }, false, false},
		{"in Head", chunked + "5\r\nhello\r\n", nil, true, false},
		{"in Head of a whole response", hello, nil, true, false},
		{"in Body", chunked + "5\r\nhello\r\n5\r\nworld\r\n", nil, false, true},
		{"in Body of a whole response", hello, nil, false, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			gone, asked := make(chan struct{}), make(chan struct{})
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				c.Request()
				close(asked)
				c.Write(tt.reply)
				c.Gone()
				close(gone)
			})
			r := newRig(t, h1.Config{Target: target(s)})
			c := r.start("{}", func(c *caller) {
				if tt.inHead {
					c.call.Cancel()
				}
			}, func(c *caller, _ []byte) {
				if tt.inBody {
					c.call.Cancel()
					c.call.Cancel()
				}
			})
			await(t, asked, "the request")
			if tt.cancel != nil {
				tt.cancel(r, c)
			}
			await(t, gone, "the close")
			r.idle(0)
			r.on(func() { c.call.Pause(); c.call.Resume(); c.call.Release() })
			a := c.heard()
			if a.ends != 0 || tt.inHead && len(a.body) > 0 || tt.inBody && string(a.body) != "hello" {
				t.Errorf("heard: %v", a)
			}
		})
	}
}

// TestRelease: the rest of a response that is about to end is read for the connection's sake, also when it was paused,
// and not when it is long or never comes.
func TestRelease(t *testing.T) {
	tests := []struct {
		name, rest string
		paused     bool
		kept       int64
	}{
		{"the last chunk is there", "0\r\n\r\n", false, 1},
		{"some more", "5\r\nworld\r\n0\r\n\r\n", false, 1},
		{"some more, paused", "5\r\nworld\r\n0\r\n\r\n", true, 1},
		{"far too much", "8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n0\r\n\r\n", false, 0},
		{"it never comes", "5\r\nwor", false, 0},
		{"nonsense", "zz", false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
				if c.Request() == nil {
					return
				}
				c.Write(chunked + "5\r\nhello\r\n")
				c.Write(tt.rest)
				c.Gone()
			})
			r := newRig(t, h1.Config{Target: target(s)})
			c := r.start("{}", nil, func(c *caller, _ []byte) {
				if tt.paused {
					c.call.Pause()
				}
				c.call.Release()
			})
			r.idle(tt.kept)
			if a := c.heard(); string(a.body) != "hello" || a.ends != 0 {
				t.Fatalf("heard after Release: %v", a)
			}
		})
	}
}

// TestNextCallInEnd: the connection that a call ends on can serve the call that its receiver begins then.
func TestNextCallInEnd(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", always(hello))
	r := newRig(t, h1.Config{Target: target(s)})
	second := &caller{r: r, over: make(chan struct{}), onHead: func() {}}
	first := &chained{next: func() { second.call = r.tr.Start(r.pool.Loops()[0], request("{}"), second) }}
	r.on(func() { r.tr.Start(r.pool.Loops()[0], request("{}"), first) })
	mustComplete(t, second.wait(), "hello")
	if n := s.Accepted.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	r.idle(1)
}

type chained struct {
	answer
	next func()
}

func (c *chained) End() { c.next() }

// TestPanic: a receiver that panics costs its own call only.
func TestPanic(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", always(hello))
	r := newRig(t, h1.Config{Target: target(s)})
	r.mayPanic = true
	bad := r.start("{}", nil, func(*caller, []byte) { panic("a test's panic") })
	good := r.start("{}", nil, nil)
	if a := bad.wait(); !errors.Is(a.err, upstream.ErrPanic) {
		t.Error(a)
	}
	mustComplete(t, good.wait(), "hello")
	r.idle(1)
}

// TestManyCalls has many calls on two loops at a time, each with bytes of its own.
func TestManyCalls(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "unix", func(c *upstreamtest.Conn) {
		for req := c.Request(); req != nil; req = c.Request() {
			c.Write(chunked)
			for i := range len(req.Text) {
				c.Write("1\r\n"+req.Text[i:i+1], "\r\n")
			}
			c.Write("0\r\n\r\n")
		}
	})
	r := newRigOf(t, 2, h1.Config{Target: upstream.Target{Socket: s.Addr}, IdleMax: 20})
	for round := range 3 {
		var calls []*caller
		for i := range 200 {
			l := r.pool.Loops()[i%2]
			c := &caller{r: r, over: make(chan struct{}), onHead: func() {}}
			calls = append(calls, c)
			if err := l.Post(func() { c.call = r.tr.Start(l, request(fmt.Sprintf("call %d of round %d", i, round)), c) }); err != nil {
				t.Fatal(err)
			}
		}
		for i, c := range calls {
			mustComplete(t, c.wait(), fmt.Sprintf("call %d of round %d", i, round))
		}
	}
	r.idle(40)
}

// TestClose: idle connections go, calls that wait for one fail, calls under way end by themselves, later ones fail.
func TestClose(t *testing.T) {
	fdtest.NoLeaks(t)
	now := make(chan struct{})
	s := upstreamtest.Start(t, "tcp", func(c *upstreamtest.Conn) {
		c.Request()
		if c.N > 1 {
			c.Write(chunked)
			c.Wait(now)
			c.Write("5\r\nhello\r\n0\r\n\r\n")
		} else {
			c.Write(hello)
		}
		c.Gone()
	})
	r := newRig(t, h1.Config{Target: target(s)})
	headed := make(chan struct{})
	mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
	first := r.start("{}", nil, nil) // takes the idle connection, whose script does not answer
	second := r.start("{}", func(*caller) { close(headed) }, nil)
	await(t, headed, "the head")
	r.tr.Close()
	if a := r.start("{}", nil, nil).wait(); !errors.Is(a.err, upstream.ErrClosed) {
		t.Error(a)
	}
	close(now)
	mustComplete(t, second.wait(), "hello")
	r.on(first.call.Cancel)
	r.idle(0)
	r.tr.Close() // twice is safe
}

// TestUnixBacklog: a Unix listener whose backlog is full gives no readiness. Calls wait for it, and fail in time.
func TestUnixBacklog(t *testing.T) {
	fdtest.NoLeaks(t)
	path := t.TempDir() + "/s"
	n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ln := os.NewFile(uintptr(n), path)
	defer ln.Close()
	if err := unix.Bind(n, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(n, 0); err != nil { // one fits
		t.Fatal(err)
	}
	r := newRig(t, h1.Config{Target: upstream.Target{Socket: path}, ConnectTimeout: 200 * time.Millisecond})
	accepted := r.start("{}", nil, nil)
	waiting := r.start("{}", nil, nil)
	if a := waiting.wait(); !errors.Is(a.err, upstream.ErrConnectTimeout) {
		t.Fatal(a)
	}
	patient := newRig(t, h1.Config{Target: upstream.Target{Socket: path}, ConnectTimeout: patience})
	late := patient.start("{}", nil, nil)
	for range 2 { // room for it
		fd, _, err := unix.Accept4(n, unix.SOCK_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		c := os.NewFile(uintptr(fd), "")
		defer c.Close()
		if _, err := c.WriteString(hello); err != nil {
			t.Fatal(err)
		}
	}
	mustComplete(t, accepted.wait(), "hello")
	mustComplete(t, late.wait(), "hello")
}

func TestNewErrors(t *testing.T) {
	r := newRig(t, h1.Config{Target: upstream.Target{Host: "h", Port: 1}})
	for _, to := range []upstream.Target{
		{}, {Host: "h"}, {Port: 80}, {Host: "h", Port: 65536}, {Host: "h", Port: 443, TLS: true}, {Host: "h", Port: 80, PriorH2: true},
		{Socket: strings.Repeat("x", 108)},
	} {
		if _, err := h1.New(r.pool, h1.Config{Target: to}); err == nil {
			t.Errorf("%+v was taken", to)
		}
	}
}
