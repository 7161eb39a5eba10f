package stream_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// relay is a backend that passes on what an upstream sends over a socket of its own, as a proxy for a text generator
// does: it holds the head until the upstream has answered, stops reading while its client is slow, and leaves the
// upstream when the client leaves. It sends from its own readiness callbacks, outside of the stream's.
type relay struct {
	*streamtest.Script
	loop     *loop.Loop
	upstream loop.FD // while not attached
	source   loop.Source
	paused   bool
	answered bool
}

func newRelay(r *streamtest.Rig, l *loop.Loop, upstream loop.FD) *relay {
	b := &relay{loop: l, upstream: upstream}
	b.Script = &streamtest.Script{
		OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.Out.HoldHead(); return b.watch() },
		OnPause: func(*streamtest.Script) { b.paused = true; b.leave() },
		OnResume: func(s *streamtest.Script) {
			b.paused = false
			if err := b.watch(); err != nil {
				s.End(err)
			}
		},
		OnStop: func(*streamtest.Script, error) {
			b.source.Retire()
			_ = b.upstream.Close()
		},
	}
	r.Watch(b.Script)
	return b
}

func (b *relay) watch() error {
	err := b.source.Attach(b.loop, b.upstream, b)
	if err == nil {
		b.upstream = loop.FD{}
	}
	return err
}

func (b *relay) leave() {
	if b.source.Attached() {
		b.upstream = b.source.Detach()
	}
}

func (b *relay) Readable() {
	var buf [16 << 10]byte
	for range 4 {
		n, err := loop.Recv(b.source.FD(), buf[:])
		switch {
		case err == unix.EAGAIN:
			return
		case err != nil, n == 0 && !b.answered:
			b.finish(fmt.Errorf("%w: %w", stream.ErrBackend, errors.Join(err, errOther)))
			return
		case n == 0:
			b.finish(nil)
			return
		case !b.answered && buf[0] != '2':
			b.finish(&stream.Refusal{Status: 502, Message: "upstream said no"})
			return
		case !b.answered:
			b.answered = true
			b.SendHead()
		default:
			if !b.Out.SendCopy(buf[:n]) {
				return // Pause or Stop follows
			}
		}
	}
}

func (b *relay) finish(err error) {
	b.source.Retire()
	b.End(err)
}

// Hangup: the upstream has closed, and bytes of it are left that the client was too slow for. A fresh registration
// reads on.
func (b *relay) Hangup() {
	b.leave()
	if err := b.watch(); err != nil {
		b.End(err)
	}
}
func (b *relay) Writable()        {}
func (b *relay) Failed(err error) { b.End(err) }

func relayRig(t *testing.T, change func(*stream.Config)) (r *streamtest.Rig, b **relay, upstream int) {
	t.Helper()
	var near, far loop.FD
	b = new(*relay)
	r = streamtest.New(t, 1, func(c *stream.Config) {
		c.NewBackend = func(l *loop.Loop) stream.Backend { *b = newRelay(r, l, near); return *b }
		if change != nil {
			change(c)
		}
	})
	near, far = fdtest.SocketPair(t, unix.SOCK_STREAM)
	t.Cleanup(func() { _ = far.Close() })
	if err := unix.SetNonblock(far.Int(), true); err != nil {
		t.Fatal(err)
	}
	return r, b, far.Int()
}

// Goal: the whole way through a relaying backend: the held head, bytes as they are, a slow client that stops the
// upstream with bounded memory, and the end. Method: 4 MB from an upstream that sends as fast as it may, a client that
// reads nothing until everything stands still.
func TestRelay(t *testing.T) {
	const n = 4 << 20
	r, b, upstream := relayRig(t, nil)
	c := r.Unix("")
	c.Nothing()
	if _, err := loop.Send(upstream, []byte("200")); err != nil {
		t.Fatal(err)
	}
	if got := c.Until(head); got != head {
		t.Errorf("got %q", got)
	}
	var text strings.Builder
	for i := 0; text.Len() < n; i++ {
		fmt.Fprintf(&text, "data: %d\n\n", i)
	}
	rest := text.String()
	still := 0
	for still < 3 && len(rest) > 0 { // until the upstream's own socket is full, over and over
		k, err := loop.Send(upstream, []byte(rest[:min(len(rest), 64<<10)]))
		if err != nil && err != unix.EAGAIN {
			t.Fatal(err)
		}
		rest = rest[k:]
		still++
		if k > 0 {
			still = 0
		}
		r.On(0, func() {})
		r.On(0, func() {})
	}
	if len(rest) == 0 || (*b).Called("pause") == 0 {
		t.Fatalf("%d bytes are left upstream; calls %v", len(rest), (*b).Calls())
	}
	r.On(0, func() {
		if !(*b).paused {
			t.Error("the backend does not know that it is paused")
		}
	})
	if p := r.Server.Counts().Pending; p > 64<<10+16<<10 {
		t.Errorf("%d bytes wait, want the high watermark and a read at most", p)
	}
	sent := make(chan error, 1)
	go func() {
		if err := unix.SetNonblock(upstream, false); err != nil {
			sent <- err
			return
		}
		for len(rest) > 0 {
			k, err := unix.Write(upstream, []byte(rest))
			if err != nil {
				sent <- err
				return
			}
			rest = rest[k:]
		}
		sent <- unix.Shutdown(upstream, unix.SHUT_WR)
	}()
	if got, want := c.All(), head+text.String()+done; got != want {
		t.Errorf("%d bytes came, want %d, the same: %v", len(got), len(want), got == want)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// An upstream that refuses, or fails before its answer, is a status of ours.
func TestRelayRefused(t *testing.T) {
	for answer, message := range map[string]string{"404": "upstream said no", "": "the backend failed"} {
		t.Run("answer "+answer, func(t *testing.T) {
			r, _, upstream := relayRig(t, nil)
			c := r.TCP(corsPayload)
			if _, err := loop.Send(upstream, []byte(answer)); err != nil {
				t.Fatal(err)
			}
			if err := unix.Shutdown(upstream, unix.SHUT_WR); err != nil {
				t.Fatal(err)
			}
			checkRefusal(t, c.All(), 502, message, "")
		})
	}
}

// The upstream is left at once when the client leaves: its work costs money.
func TestRelayLeavesUpstream(t *testing.T) {
	r, b, upstream := relayRig(t, nil)
	_ = r.TCP("").Close()
	fdtest.Eventually(t, "the end of the upstream connection", func() bool {
		var buf [1]byte
		n, err := loop.Recv(upstream, buf[:])
		return n == 0 && err == nil
	})
	fdtest.Eventually(t, "Stop", func() bool { return (*b).Called("stop") == 1 })
	if err := (*b).Cause(); !errors.Is(err, conn.ErrHangup) {
		t.Errorf("Stop(%v)", err)
	}
}
