package conn_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// A client whose bytes are unread at the end must not lose the tail of its response (P-12). It reads all but the last
// 20 kB, which then fit into the kernel; it hears Ended(nil), writes as a client does that reuses the connection for
// its next request (P-05), and only then reads on: every byte and an orderly end, no reset. A plain close in place of
// the lingering one answers that request with a reset.
func TestLingeringClose(t *testing.T) {
	const total, tail = 1 << 20, 20 << 10
	r := newRig(t, 1, conn.Config{High: 2 * total}, plenty)
	p := &probe{}
	client := r.open(0, p, tcp)
	r.on(0, func() { p.Queue(pattern(0, total)); p.Finish() })
	if _, err := readPattern(client, 0, total-tail); err != nil {
		t.Fatal(err)
	}
	await(t, p.ended, "the last byte to be in the kernel")
	if p.cause != nil {
		t.Fatalf("ended with %v", p.cause)
	}
	if _, err := client.Write([]byte("GET /favicon.ico HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	r.turns(0, 2)
	if n, err := readPattern(client, total-tail, -1); n != tail || err != nil {
		t.Errorf("read %d of the last %d bytes, %v", n, tail, err)
	}
	select {
	case <-p.released:
		t.Error("released before the client has closed")
	default:
	}
	_ = client.Close()
	await(t, p.released, "Released")
}

// The rest of a request that the client has sent before it shut its side waits in the socket when the response is
// over: it is read to its end, or the close would cost the tail. One recv gives at most 64 KiB.
func TestLingeringReadsToTheEnd(t *testing.T) {
	const unread = 200 << 10
	m := newMeddler()
	small := &smallReads{m}
	r := newRig(t, 1, conn.Config{Kernel: small}, plenty)
	p := &probe{}
	client := r.open(0, p, unic)
	r.on(0, func() { p.Queue([]byte("tail")); p.Finish() })
	r.on(0, func() { // in one turn: the bytes and the end come as one readiness
		if n, err := client.Write(make([]byte, unread)); n != unread || err != nil {
			t.Error(n, err)
		}
		_ = client.(interface{ CloseWrite() error }).CloseWrite()
	})
	await(t, p.released, "Released")
	if n := m.received.Load(); n != unread {
		t.Errorf("%d of %d bytes were read before the close", n, unread)
	}
	if b, err := io.ReadAll(client); string(b) != "tail" || err != nil {
		t.Errorf("the client read %q, %v", b, err)
	}
}

// smallReads gives 4 KiB per recv, as a kernel with small segments may.
type smallReads struct{ *meddler }

func (k *smallReads) Recv(fd int, b []byte) (int, error) { return k.meddler.Recv(fd, b[:4<<10]) }

// A client that writes for ever while its conn lingers is closed at LingerBytes.
func TestLingerBytes(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		const limit = 256 << 10
		m := newMeddler()
		r := newRig(t, 1, conn.Config{LingerBytes: limit, LingerTimeout: time.Hour, Kernel: m}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		const earlier = 128 << 10 // does not count
		if n, err := client.Write(make([]byte, earlier)); n != earlier || err != nil {
			t.Fatal(n, err)
		}
		fdtest.Eventually(t, "the loop to read", func() bool { return m.received.Load() == earlier })
		r.on(0, p.Finish)
		await(t, p.ended, "Ended")
		before := m.received.Load()
		for {
			if _, err := client.Write(make([]byte, 4<<10)); err != nil {
				break
			}
		}
		await(t, p.released, "Released")
		if n := m.received.Load() - before; n <= limit || n > limit+64<<10 {
			t.Errorf("%d bytes were taken while lingering, limit %d", n, limit)
		}
		if p.cause != nil {
			t.Errorf("ended with %v", p.cause)
		}
	})
}

// A client that neither closes nor falls silent is closed at LingerTimeout: what it writes does not prolong it. The
// order of several is the order in which they ended.
func TestLingerTimeout(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		const timeout = 100 * time.Millisecond
		r := newRig(t, 1, conn.Config{LingerTimeout: timeout}, plenty)
		silent, talking := &probe{}, &probe{}
		a, b := r.open(0, silent, kind), r.open(0, talking, kind)
		r.on(0, func() { talking.Queue([]byte("bye")); talking.Finish() })
		r.on(0, func() { silent.Queue([]byte("bye")); silent.Finish() })
		r.on(0, func() {
			if l := r.shards[0].Lingering(); len(l) != 2 || l[0] != &talking.Conn {
				t.Errorf("%d linger, in the wrong order", len(l))
			}
		})
		stop := time.NewTimer(patience)
		defer stop.Stop()
		for done := false; !done; {
			select {
			case <-talking.released:
				done = true
			case <-stop.C:
				t.Fatal("a client that talks lingers for ever")
			default:
				_, _ = b.Write([]byte("x"))
			}
		}
		await(t, silent.released, "Released")
		for _, p := range []*probe{silent, talking} {
			if d := p.releasedAt - p.endedAt; d < timeout || p.cause != nil {
				t.Errorf("released %v after the end, which was %v; timeout %v", d, p.cause, timeout)
			}
		}
		if got, err := io.ReadAll(a); string(got) != "bye" || err != nil {
			t.Errorf("the silent client read %q, %v", got, err)
		}
	})
}

// While the sender still holds its copy of the client socket (P-07, P-13), a close of ours tells the client nothing:
// shutdown has to. After Retire nothing is heard of the socket, though its description, and with it an epoll
// registration that was left to close, lives on; not even when its number has been given to the next client.
func TestSenderHoldsItsCopy(t *testing.T) {
	ends := []struct {
		name  string
		state string
		end   func(p *probe)
	}{
		{"finish", "lingering", func(p *probe) { p.Finish() }},
		{"abort", "closed", func(p *probe) { p.Abort(errOver, false) }},
	}
	eachPair(t, func(t *testing.T, kind pair) {
		for _, tt := range ends {
			t.Run(tt.name, func(t *testing.T) {
				m := newMeddler()
				r := newRig(t, 1, conn.Config{Kernel: m}, plenty)
				p := &probe{}
				near, client := kind.make(t)
				number := near.Int()
				n, err := unix.FcntlInt(uintptr(number), unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				copied := loop.OwnFD(n)
				defer copied.Close()
				r.openFD(0, p, near, kind.tcp)
				r.on(0, func() { p.Queue([]byte("last")); p.Flush(); tt.end(p) })
				if got, err := io.ReadAll(client); string(got) != "last" || err != nil {
					t.Errorf("the client read %q, %v", got, err)
				}
				r.on(0, func() {
					if s := p.StateName(); s != tt.state {
						t.Errorf("state %s", s)
					}
					p.Abort(errOver, false)
				})
				await(t, p.released, "Released")
				r.turns(0, 1) // and the number given back, in the sweep

				next := &probe{}
				nextNear, _ := kind.make(t)
				if at := nextNear.Int(); at != number { // the kernel gives the lowest number, so this is rare
					if err := unix.Dup3(at, number, unix.O_CLOEXEC); err != nil {
						t.Fatal(err)
					}
					_ = nextNear.Close()
					nextNear = loop.OwnFD(number)
				}
				r.openFD(0, next, nextNear, kind.tcp)
				r.turns(0, 2)
				recvs := m.recvs.Load()
				_, _ = client.Write([]byte("are you there?"))
				_ = client.Close()
				r.turns(0, 5)
				if n := m.recvs.Load() - recvs; n != 0 {
					t.Errorf("the next client was asked %d times for bytes of the last", n)
				}
				if n := registered(t, number); n != 1 {
					t.Errorf("descriptor number %d is registered %d times", number, n)
				}
			})
		}
	})
}

// registered is how often a descriptor number stands in the epoll instances of this process (proc(5), fdinfo).
func registered(t testing.TB, number int) (n int) {
	for _, fd := range fdtest.OpenFDs(t) {
		name, target, _ := strings.Cut(fd, " -> ")
		if target != "anon_inode:[eventpoll]" {
			continue
		}
		info, err := os.ReadFile("/proc/self/fdinfo/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(info)) {
			var tfd int
			if _, err := fmt.Sscanf(line, "tfd: %d", &tfd); err == nil && tfd == number {
				n++
			}
		}
	}
	return n
}

// A reset is for the last holder to send: the client sees it once the sender's copy is gone, and no orderly end
// before.
func TestResetWhileSenderHoldsItsCopy(t *testing.T) {
	r := newRig(t, 1, conn.Config{}, plenty)
	p := &probe{}
	near, client := tcpPair(t)
	n, err := unix.FcntlInt(uintptr(near.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	copied := loop.OwnFD(n)
	defer copied.Close()
	r.openFD(0, p, near, true)
	r.on(0, func() { p.Abort(conn.ErrEvicted, true) })
	r.turns(0, 1)
	if err := copied.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client read %d bytes, %v", n, err)
	}
}

// A client that has reset the connection before the end is known cannot be told of it: that is a hangup, not a success.
func TestFinishOfAResetConnection(t *testing.T) {
	r := newRig(t, 1, conn.Config{}, plenty)
	p := &probe{}
	near, client := tcpPair(t)
	r.openFD(0, p, near, true)
	r.on(0, func() {
		_ = client.SetLinger(0)
		_ = client.Close()
		p.Finish()
	})
	await(t, p.released, "Released")
	if !errors.Is(p.cause, conn.ErrHangup) {
		t.Errorf("ended with %v", p.cause)
	}
}
