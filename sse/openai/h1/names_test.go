package h1_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/h1"
	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/openai/upstreamtest"
)

func addrs(texts ...string) []netip.Addr {
	var a []netip.Addr
	for _, s := range texts {
		a = append(a, netip.MustParseAddr(s))
	}
	return a
}

// TestNameIsLookedUpOnce: a burst of calls on two loops waits for one lookup, later ones use its answer.
func TestNameIsLookedUpOnce(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", always(hello))
	var lookups atomic.Int64
	now := make(chan struct{})
	r := newRigOf(t, 2, h1.Config{
		Target: upstream.Target{Host: "llm.test", Port: s.Port()},
		Lookup: func(_ context.Context, host string) ([]netip.Addr, error) {
			lookups.Add(1)
			<-now
			if host != "llm.test" {
				return nil, fmt.Errorf("asked for %q", host)
			}
			return addrs("::ffff:127.0.0.1"), nil // as the resolver gives IPv4 addresses at times
		},
	})
	var calls []*caller
	for i := range 40 {
		l := r.pool.Loops()[i%2]
		c := &caller{r: r, over: make(chan struct{}), onHead: func() {}}
		calls = append(calls, c)
		if err := l.Post(func() { c.call = r.tr.Start(l, request("{}"), c) }); err != nil {
			t.Fatal(err)
		}
	}
	cancelled := r.start("{}", nil, nil)
	r.on(cancelled.call.Cancel)
	close(now)
	for _, c := range calls {
		mustComplete(t, c.wait(), "hello")
	}
	mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
	if n := lookups.Load(); n != 1 {
		t.Errorf("%d lookups", n)
	}
	if n := s.Requests.Load(); n != 41 {
		t.Errorf("%d requests: the call that was cancelled went out", n)
	}
	if n := r.tr.Counts().Dials; n > 41 {
		t.Errorf("%d connections begun", n)
	}
}

func TestNameFails(t *testing.T) {
	for name, lookup := range map[string]func(context.Context, string) ([]netip.Addr, error){
		"error":   func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such name") },
		"nothing": func(context.Context, string) ([]netip.Addr, error) { return nil, nil },
		"never":   func(ctx context.Context, _ string) ([]netip.Addr, error) { <-ctx.Done(); return nil, ctx.Err() },
	} {
		t.Run(name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			r := newRig(t, h1.Config{Target: upstream.Target{Host: "llm.test", Port: 1}, Lookup: lookup, ConnectTimeout: 100 * time.Millisecond})
			if a := r.start("{}", nil, nil).wait(); !errors.Is(a.err, upstream.ErrResolve) {
				t.Error(a)
			}
		})
	}
}

// TestNameServerOutage: an answer is asked for again after its time; when there is none, the old one serves on, but not
// for ever.
func TestNameServerOutage(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", always(hello))
	var lookups atomic.Int64
	r := newRig(t, h1.Config{Target: upstream.Target{Host: "llm.test", Port: s.Port()}, IdleMax: -1,
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			if lookups.Add(1) > 1 {
				return nil, errors.New("the name server is down")
			}
			return addrs("127.0.0.1"), nil
		}})
	for _, tt := range []struct {
		later   time.Duration // since the call before
		lookups int64
		err     error
	}{
		{0, 1, nil}, {h1.NameFresh / 2, 1, nil}, {h1.NameFresh, 2, nil}, {h1.NameFailed, 3, nil},
		{h1.NameStale, 4, upstream.ErrResolve}, {h1.NameFailed, 5, upstream.ErrResolve},
	} {
		h1.Age(r.tr, tt.later)
		a := r.start("{}", nil, nil).wait()
		if !errors.Is(a.err, tt.err) || (tt.err == nil) != (a.err == nil) || lookups.Load() != tt.lookups {
			t.Errorf("%+v: %d lookups, %v", tt, lookups.Load(), a)
		}
	}
}

// TestCloseEndsLookup: Close waits for nobody's name server.
func TestCloseEndsLookup(t *testing.T) {
	fdtest.NoLeaks(t)
	begun := make(chan struct{})
	r := newRig(t, h1.Config{Target: upstream.Target{Host: "llm.test", Port: 1}, ConnectTimeout: time.Hour,
		Lookup: func(ctx context.Context, _ string) ([]netip.Addr, error) {
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		}})
	c := r.start("{}", nil, nil)
	await(t, begun, "the lookup")
	r.tr.Close()
	if a := c.wait(); !errors.Is(a.err, upstream.ErrClosed) {
		t.Error(a)
	}
}

// TestNextAddress: an address where nobody listens, or where nobody answers, costs the call nothing but time, and the
// calls after it not even that.
func TestNextAddress(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", always(hello)) // on 127.0.0.1 only
	r := newRig(t, h1.Config{
		Target: upstream.Target{Host: "llm.test", Port: s.Port()}, IdleMax: -1,
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			return addrs("127.0.0.2", "127.0.0.3", "127.0.0.1"), nil
		},
	})
	mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
	if c := r.tr.Counts(); c.Dials != 3 {
		t.Errorf("%d connections begun for the first call, want 3", c.Dials)
	}
	mustComplete(t, r.start("{}", nil, nil).wait(), "hello")
	if c := r.tr.Counts(); c.Dials != 4 {
		t.Errorf("%d connections begun for the second call, want 1", c.Dials-3)
	}
}

func TestRefused(t *testing.T) {
	fdtest.NoLeaks(t)
	s := upstreamtest.Start(t, "tcp", always(hello))
	to := target(s)
	s.Close()
	r := newRig(t, h1.Config{Target: to})
	if a := r.start("{}", nil, nil).wait(); !errors.Is(a.err, upstream.ErrConnect) || !errors.Is(a.err, unix.ECONNREFUSED) {
		t.Error(a)
	}
	gone := newRig(t, h1.Config{Target: upstream.Target{Socket: t.TempDir() + "/none"}})
	if a := gone.start("{}", nil, nil).wait(); !errors.Is(a.err, upstream.ErrConnect) || !errors.Is(a.err, unix.ENOENT) {
		t.Error(a)
	}
	r.idle(0)
	gone.idle(0)
}

// TestConnectTimeout: a listener whose queue is full does not answer further SYNs, which is what an unreachable host
// looks like.
func TestConnectTimeout(t *testing.T) {
	fdtest.NoLeaks(t)
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	if err := unix.Bind(n, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(n, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(n)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*unix.SockaddrInet4).Port
	r := newRig(t, h1.Config{Target: upstream.Target{Host: "127.0.0.1", Port: port}, ConnectTimeout: 200 * time.Millisecond})
	fill := r.start("{}", nil, nil) // the queue holds one
	fdtest.Eventually(t, "the first connection", func() bool {
		var fds [1]unix.PollFd
		fds[0] = unix.PollFd{Fd: int32(n), Events: unix.POLLIN}
		ready, _ := unix.Poll(fds[:], 0)
		return ready == 1
	})
	timedOut := 0
	for range 3 {
		if a := r.start("{}", nil, nil); errors.Is(a.wait().err, upstream.ErrConnectTimeout) {
			timedOut++
			break
		}
	}
	if timedOut == 0 {
		t.Error("no connect timed out")
	}
	r.on(fill.call.Cancel)
	r.idle(0)
}
