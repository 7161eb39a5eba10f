package conn_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// The clients that there are: each test is one kind of them, over TCP and over a Unix socket.

const event = 1 << 10 // bytes of an event of the pattern

// eachPair runs a test for both kinds of client socket.
func eachPair(t *testing.T, f func(t *testing.T, kind pair)) {
	for _, kind := range both {
		t.Run(kind.name, func(t *testing.T) { f(t, kind) })
	}
}

// A client that reads nothing: its owner is paused once, at the high watermark; the memory for it is bounded, with us
// and with the kernel; after the write timeout and not before it is closed, with a reset.
func TestClientThatReadsNothing(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		const high, timeout = 64 << 10, 150 * time.Millisecond
		const event = 8 << 10 // so that a turn's sends alone would queue far more
		r := newRig(t, 1, conn.Config{High: high, WriteTimeout: timeout}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		var stalled time.Duration
		p.onPaused = func() { stalled = p.shard.Loop().Now() }
		feed := func() { p.feed(event, 64<<20) } // a backend that is never paused stops here, and fails the test
		p.onResumed = feed
		r.on(0, feed)
		await(t, p.ended, "the write timeout")
		await(t, p.released, "Released")
		if !errors.Is(p.cause, conn.ErrWriteTimeout) {
			t.Errorf("ended with %v", p.cause)
		}
		// A loopback kernel moves bytes on its own for a moment, so that a first pause may be followed by another.
		if p.pauses == 0 || p.pauses != p.resumes+1 {
			t.Errorf("paused %d times, resumed %d times", p.pauses, p.resumes)
		}
		if p.mostQueued >= high+event {
			t.Errorf("%d bytes were pending, high watermark %d", p.mostQueued, high)
		}
		if held := p.Sent(); held > 8<<20 {
			t.Errorf("the kernel took %d bytes for a client that reads nothing", held)
		}
		if waited := p.endedAt - stalled; waited < timeout {
			t.Errorf("closed after %v, write timeout %v", waited, timeout)
		}
		_, err := readPattern(client, 0, -1)
		if kind.tcp && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the client read %v in place of a reset", err)
		}
	})
}

// A client that reads, but slower than its owner sends: pauses and resumes alternate (the rig checks the order), and
// every byte arrives, in order.
func TestClientThatReadsSlowly(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		const total = 8 << 20
		r := newRig(t, 1, conn.Config{}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		feed := func() {
			if p.feed(event, total); p.fed == total && p.Writable() {
				p.Finish()
			}
		}
		p.onResumed = feed
		r.on(0, feed)
		read := 0
		for read < total {
			n, err := readPattern(client, read, min(16<<10, total-read))
			if read += n; err != nil {
				t.Fatal(err)
			}
		}
		if n, err := client.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Errorf("after the last byte: %d bytes, %v", n, err)
		}
		_ = client.Close()
		await(t, p.released, "Released")
		if p.cause != nil || p.Sent() != total {
			t.Errorf("ended with %v after %d bytes", p.cause, p.Sent())
		}
		if p.pauses < 5 || p.mostQueued >= 64<<10+event || p.mostResumed > 16<<10 {
			t.Errorf("%d pauses, at most %d bytes pending, %d when resumed", p.pauses, p.mostQueued, p.mostResumed)
		}
	})
}

// A client that leaves mid-stream is found out at once and without a write (P-14): no send is made between its last
// event and the end. With bytes pending it is the same, and so for one that resets or that has written something.
func TestClientThatLeaves(t *testing.T) {
	tests := []struct {
		name  string
		fed   int // bytes before it leaves
		leave func(t *testing.T, c net.Conn)
	}{
		{"idle", event, func(t *testing.T, c net.Conn) {
			if _, err := readPattern(c, 0, event); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		}},
		{"with events unread", event, func(t *testing.T, c net.Conn) { _ = c.Close() }},
		{"while its owner is paused", 64 << 20, func(t *testing.T, c net.Conn) { _ = c.Close() }},
		{"with a reset", event, func(t *testing.T, c net.Conn) {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		}},
		{"after a few words", event, func(t *testing.T, c net.Conn) {
			_, _ = c.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
			_ = c.Close()
		}},
		// Taken for gone, though it could still read (P-14).
		{"half", event, func(t *testing.T, c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }},
		{"half, while its owner is paused", 64 << 20, func(t *testing.T, c net.Conn) {
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
		}},
	}
	eachPair(t, func(t *testing.T, kind pair) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				m := newMeddler()
				r := newRig(t, 1, conn.Config{Kernel: m}, plenty)
				p := &probe{}
				client := r.open(0, p, kind)
				r.on(0, func() { p.feed(event, tt.fed) })
				var sends int64
				// Left by the loop's own hand: the rest of a paused stream must not be sent on while we look.
				r.eachTurn(0, 2, func(turn int) {
					if turn == 0 {
						sends = m.sends.Load()
						tt.leave(t, client)
					} else if s := p.StateName(); s != "closed" && !kind.tcp { // a FIN may take longer on its way
						t.Errorf("%s in the next turn", s)
					}
				})
				await(t, p.released, "the hangup")
				if !errors.Is(p.cause, conn.ErrHangup) {
					t.Errorf("ended with %v", p.cause)
				}
				if n := m.sends.Load() - sends; n > 1 || n > 0 && tt.fed == event {
					t.Errorf("found out with %d writes", n) // one at most, where EPOLLOUT was asked for and came along
				}
			})
		}
	})
}

// A client that has written more than a turn reads, and left: what is unread stands before the end, and after its hangup
// there is no further readiness. It is found out all the same.
func TestClientThatLeavesALotBehind(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		r := newRig(t, 1, conn.Config{Kernel: &smallReads{newMeddler()}}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		r.on(0, func() {
			if n, err := client.Write(make([]byte, 100<<10)); n != 100<<10 || err != nil {
				t.Error(n, err)
			}
			_ = client.Close()
		})
		await(t, p.released, "the hangup")
		if !errors.Is(p.cause, conn.ErrHangup) {
			t.Errorf("ended with %v", p.cause)
		}
	})
}

// A client that writes a megabyte while it is streamed to still reads the last byte, and an orderly end. What it writes
// after the end is for the lingering close to bear: here the end comes when nearly all has been read.
func TestClientThatTalks(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		const total, said = 4 << 20, 1 << 20
		m := newMeddler()
		r := newRig(t, 1, conn.Config{Kernel: m}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		wrote, read := make(chan error, 1), make(chan error, 1)
		heard := false // owned by the loop
		feed := func() {
			if p.feed(event, total); p.fed == total && heard && p.Writable() {
				p.Finish()
			}
		}
		p.onResumed = feed
		r.on(0, feed)
		go func() { _, err := client.Write(make([]byte, said)); wrote <- err }()
		go func() {
			n, err := readPattern(client, 0, -1)
			if n != total && err == nil {
				err = fmt.Errorf("%d of %d bytes", n, total)
			}
			read <- err
		}()
		fdtest.Eventually(t, "the loop to read", func() bool { return m.received.Load() >= said-64<<10 })
		r.on(0, func() { heard = true; feed() })
		if err := await(t, wrote, "the client's megabyte"); err != nil {
			t.Errorf("the client wrote: %v", err)
		}
		if err := await(t, read, "the client's end"); err != nil {
			t.Errorf("the client read: %v", err)
		}
		_ = client.Close()
		await(t, p.released, "Released")
		if p.cause != nil {
			t.Errorf("ended with %v", p.cause)
		}
	})
}

// A client that writes more than it may is closed: no more than one read past the bound is taken from it.
func TestClientThatTalksTooMuch(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		const limit = 100_000
		m := newMeddler()
		r := newRig(t, 1, conn.Config{InputMax: limit, Kernel: m}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		if n, err := client.Write(make([]byte, limit)); n != limit || err != nil {
			t.Fatal(n, err)
		}
		fdtest.Eventually(t, "the loop to read", func() bool { return m.received.Load() == limit })
		r.turns(0, 1)
		select {
		case <-p.ended:
			t.Fatalf("ended with %v at the limit", p.cause)
		default:
		}
		_, _ = client.Write([]byte{0})
		await(t, p.released, "the end")
		if !errors.Is(p.cause, conn.ErrInput) {
			t.Errorf("ended with %v", p.cause)
		}
		if n := m.received.Load(); n != limit+1 {
			t.Errorf("%d bytes were taken, limit %d", n, limit)
		}
		if _, err := client.Read(make([]byte, 1)); kind.tcp && !errors.Is(err, unix.ECONNRESET) {
			t.Errorf("the client read %v", err)
		}
	})
}

// The kernel's own verdicts: what send and recv say ends the conn with the cause that fits, whichever of them hears.
func TestErrorsOfTheSocket(t *testing.T) {
	tests := []struct {
		err  error
		want error
	}{
		{unix.EPIPE, conn.ErrHangup},
		{unix.ECONNRESET, conn.ErrHangup},
		{unix.ETIMEDOUT, conn.ErrWriteTimeout},
		{unix.EHOSTUNREACH, unix.EHOSTUNREACH},
	}
	for _, tt := range tests {
		t.Run(tt.err.Error(), func(t *testing.T) {
			m := &deaf{meddler: newMeddler()}
			m.limit = func(int) (int, error) { return 0, tt.err }
			r := newRig(t, 1, conn.Config{Kernel: m}, plenty)
			sending, reading := &probe{}, &probe{}
			r.open(0, sending, tcp)
			client := r.open(0, reading, tcp)
			r.on(0, func() { sending.feed(event, event) })
			await(t, sending.released, "the end")
			r.on(0, func() { m.err = tt.err })
			_, _ = client.Write([]byte("x"))
			await(t, reading.released, "the end")
			if !errors.Is(sending.cause, tt.want) || !errors.Is(reading.cause, tt.want) {
				t.Errorf("sending ended with %v, reading with %v", sending.cause, reading.cause)
			}
		})
	}
}

// deaf is a meddler whose Recv fails with err, once it is set.
type deaf struct {
	*meddler
	err error
}

func (d *deaf) Recv(fd int, b []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	return d.meddler.Recv(fd, b)
}

// The kernel refuses the socket options, or the loop the descriptor: the caller keeps it, nobody is told, nothing
// is counted, and the same Conn can be opened with another.
func TestOpenFails(t *testing.T) {
	m := &refusing{meddler: newMeddler()}
	r := newRig(t, 1, conn.Config{Kernel: m}, plenty)
	p := &probe{shard: r.shards[0]}
	a, b := unixPair(t)
	defer a.Close()
	defer b.Close()
	for _, tcp := range []bool{true, false} {
		m.refuse.Store(true)
		r.on(0, func() {
			if tcp { // the real thing: a Unix socket has no TCP options
				m.refuse.Store(false)
			}
			if err := p.Open(p.shard, a, tcp, p); err == nil {
				t.Errorf("tcp %t: opened", tcp)
			}
		})
		if c := p.shard.Counts(); c.Open != 0 || p.StateName() != "new" || len(p.told) > 0 {
			t.Errorf("tcp %t: %+v, %s, told %q", tcp, c, p.StateName(), p.told)
		}
	}
	if _, err := unix.Write(a.Int(), []byte("mine")); err != nil {
		t.Errorf("the caller's descriptor: %v", err)
	}
	m.refuse.Store(false)
	r.open(0, p, tcp)
	if p.shard.Counts().Open != 1 {
		t.Error("not opened afterwards")
	}
}

// refusing fails Attach while refuse is set.
type refusing struct {
	*meddler
	refuse atomic.Bool
}

func (k *refusing) Attach(s *loop.Source, l *loop.Loop, fd loop.FD, h loop.Handler) error {
	if k.refuse.Load() {
		return unix.ENOSPC
	}
	return k.meddler.Attach(s, l, fd, h)
}
