package loop_test

import (
	"errors"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

func TestReadable(t *testing.T) {
	for name, pair := range pairs {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t)
			near, far := pair(t)
			got := make(chan string, 10)
			p := &probe{onReadable: func(p *probe) {
				data, _ := readAll(p.FD())
				got <- data
			}}
			attach(t, l, p, near)
			for _, want := range []string{"one", "two", strings.Repeat("x", 3000)} {
				write(t, far, want)
				if data := await(t, got, "the data"); data != want {
					t.Fatalf("read %q, want %q", data, want)
				}
			}
			on(t, l, func() {
				if p.Loop() != l || !p.Attached() || l.Sources() != 1 {
					t.Errorf("loop %v, attached %v, %d sources", p.Loop(), p.Attached(), l.Sources())
				}
				if p.writable+p.hangups+p.failures != 0 {
					t.Errorf("%d writable, %d hangups, %d failures nobody asked for", p.writable, p.hangups, p.failures)
				}
			})
		})
	}
}

// TestReadableAgain: readiness is level-triggered, what is left unread is reported again.
func TestReadableAgain(t *testing.T) {
	l := newLoop(t)
	near, far := socketPair(t)
	got := make(chan byte, 10)
	attach(t, l, &probe{onReadable: func(p *probe) {
		var b [1]byte
		if n, _ := loop.Recv(p.FD(), b[:]); n == 1 {
			got <- b[0]
		}
	}}, near)
	write(t, far, "abc")
	for _, want := range []byte("abc") {
		if b := await(t, got, "a byte"); b != want {
			t.Fatalf("read %c, want %c", b, want)
		}
	}
}

// TestWritable fills a socket, asks for write interest and lets the far end read: Writable comes while it is wanted,
// again and again, and not before or after.
func TestWritable(t *testing.T) {
	for name, pair := range pairs {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t)
			near, far := pair(t)
			if err := loop.SetInt(near.Int(), unix.SOL_SOCKET, unix.SO_SNDBUF, 32<<10); err != nil {
				t.Fatal(err)
			}
			full := make(chan int, 1)
			again := make(chan struct{})
			p := &probe{onWritable: func(p *probe) {
				if p.writable == 3 {
					if err := p.Want(false); err != nil {
						t.Error(err)
					}
					close(again)
				}
			}}
			attach(t, l, p, near)
			turns(t, l, 3)
			on(t, l, func() {
				if p.writable != 0 {
					t.Errorf("%d writable without Want", p.writable)
				}
				n := fill(t, p.FD())
				for range 2 { // twice is as good as once
					if err := p.Want(true); err != nil {
						t.Error(err)
					}
				}
				full <- n
			})
			sent := await(t, full, "a full socket")
			turns(t, l, 3)
			on(t, l, func() {
				if p.writable != 0 {
					t.Errorf("%d writable while the socket is full", p.writable)
				}
			})
			for read := 0; read < sent; {
				data, hungUp := readAll(far)
				if read += len(data); hungUp {
					t.Fatal("hung up")
				}
			}
			await(t, again, "write readiness")
			turns(t, l, 3)
			on(t, l, func() {
				if p.writable != 3 {
					t.Errorf("%d writable after Want(false) at 3", p.writable)
				}
			})
		})
	}
}

// TestWantOffInReadable: both kinds of readiness come with one event; what Readable turns off, Writable is not told.
func TestWantOffInReadable(t *testing.T) {
	l := newLoop(t)
	near, far := socketPair(t)
	p := &probe{onReadable: func(p *probe) {
		readAll(p.FD())
		if err := p.Want(false); err != nil {
			t.Error(err)
		}
	}}
	write(t, far, "x")
	on(t, l, func() {
		if err := errors.Join(p.Attach(l, near, p), p.Want(true)); err != nil {
			t.Error(err)
		}
	})
	turns(t, l, 2)
	on(t, l, func() {
		if p.readable != 1 || p.writable != 0 {
			t.Errorf("%d readable, %d writable", p.readable, p.writable)
		}
	})
}

// TestHangup: the far end goes away in each way there is. Readable hears of it, with the bytes that were still under
// way, and retires; nothing is called after that.
func TestHangup(t *testing.T) {
	reset := func(t *testing.T, far int) {
		err := unix.SetsockoptLinger(far, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		if err != nil {
			t.Fatal(err)
		}
		closeNow(t, far)
	}
	tests := []struct {
		name string
		pair func(testing.TB) (loop.FD, int)
		end  func(t *testing.T, far int)
		data string
	}{
		{"unix close", socketPair, func(t *testing.T, far int) { closeNow(t, far) }, ""},
		{"unix close after data", socketPair, func(t *testing.T, far int) { write(t, far, "last"); closeNow(t, far) }, "last"},
		{"unix half-close", socketPair, func(t *testing.T, far int) { _ = loop.ShutdownWrite(far) }, ""},
		{"tcp FIN", tcpPair, func(t *testing.T, far int) { closeNow(t, far) }, ""},
		{"tcp FIN after data", tcpPair, func(t *testing.T, far int) { write(t, far, "last"); closeNow(t, far) }, "last"},
		{"tcp half-close", tcpPair, func(t *testing.T, far int) { _ = loop.ShutdownWrite(far) }, ""},
		{"tcp half-close after data", tcpPair, func(t *testing.T, far int) {
			write(t, far, "last")
			_ = loop.ShutdownWrite(far)
		}, "last"},
		{"tcp RST", tcpPair, reset, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t)
			near, far := tt.pair(t)
			number := near.Int()
			data, over := "", make(chan struct{})
			p := &probe{onReadable: func(p *probe) {
				got, hungUp := readAll(p.FD())
				data += got
				if hungUp {
					p.Retire()
					p.Retire() // twice is safe
					close(over)
				}
			}}
			attach(t, l, p, near)
			tt.end(t, far)
			await(t, over, "the hangup")
			turns(t, l, 3)
			on(t, l, func() {
				if data != tt.data {
					t.Errorf("read %q, want %q", data, tt.data)
				}
				if p.hangups != 0 || p.Attached() || p.FD() != -1 || l.Sources() != 0 {
					t.Errorf("after Retire: %d hangups, attached %v, %d sources", p.hangups, p.Attached(), l.Sources())
				}
				if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err != unix.EBADF {
					t.Errorf("descriptor %d is still open: %v", number, err)
				}
			})
		})
	}
}

// TestHangupNobodyRead: a handler that does not read to the end is told by Hangup, once, on the loop; the loop does
// not spin in between. A pipe whose writer goes reports no readability at all.
func TestHangupNobodyRead(t *testing.T) {
	pipe := func(t testing.TB) (loop.FD, int) {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		return loop.OwnFD(p[0]), closeWithTest(t, p[1])
	}
	tests := []struct {
		name     string
		pair     func(testing.TB) (loop.FD, int)
		readable int
	}{{"unix", socketPair, 1}, {"tcp", tcpPair, 1}, {"pipe", pipe, 0}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoop(t)
			near, far := tt.pair(t)
			hungUp := make(chan struct{})
			p := &probe{onHangup: func(p *probe) {
				if !p.Attached() || l.Sources() != 1 {
					t.Error("the source was taken away before its handler retired it")
				}
				if err := p.Want(true); err == nil {
					t.Error("Want after a hangup gave no error")
				}
				p.Retire()
				close(hungUp)
			}}
			attach(t, l, p, near)
			closeNow(t, far)
			await(t, hungUp, "Hangup")
			turns(t, l, 3)
			on(t, l, func() {
				if p.readable != tt.readable || p.hangups != 1 || p.writable != 0 {
					t.Errorf("%d readable, want %d; %d hangups, %d writable", p.readable, tt.readable, p.hangups, p.writable)
				}
			})
		})
	}
}

// TestHangupOfAnEarlierAttachment: the callback that a hangup makes takes the source for another client at once: that
// one has not hung up.
func TestHangupOfAnEarlierAttachment(t *testing.T) {
	l := newLoop(t)
	first, far := socketPair(t)
	second, farther := socketPair(t)
	got := make(chan string, 1)
	p := &probe{}
	p.onReadable = func(p *probe) {
		p.onReadable = func(p *probe) {
			data, _ := readAll(p.FD())
			got <- data
		}
		p.Retire()
		if err := p.Attach(l, second, p); err != nil {
			t.Error(err)
		}
	}
	attach(t, l, p, first)
	closeNow(t, far)
	turns(t, l, 3)
	write(t, farther, "alive")
	if data := await(t, got, "data for the second attachment"); data != "alive" {
		t.Fatalf("read %q", data)
	}
	on(t, l, func() {
		if p.hangups != 0 || !p.Attached() {
			t.Errorf("%d hangups, attached %v: meant for the first attachment", p.hangups, p.Attached())
		}
	})
}

// TestHangupsAmongOthers: one batch with hangups at its start, in the middle and at its end, and others between them.
// Each source hears what is meant for it, in the order of the batch, and no goroutine is started for it.
func TestHangupsAmongOthers(t *testing.T) {
	l := newLoop(t)
	var order []*probe
	all := readySources(t, 21, func(me *probe, _ []*probe) {
		order = append(order, me)
		if _, hungUp := readAll(me.FD()); hungUp && me.readable > 1 {
			t.Error("Readable after a hangup")
		}
	})
	leaves := func(i int) bool { return i%4 == 0 || i == 9 }
	for i, far := range all.far {
		if leaves(i) {
			closeNow(t, far)
		}
	}
	before := goroutinesCreated(t)
	all.attach(t, l)
	turns(t, l, 3)
	if n := goroutinesCreated(t) - before; n > 0 {
		t.Errorf("%d goroutines started", n)
	}
	on(t, l, func() {
		if !slices.Equal(order, all.probes) {
			t.Errorf("%d of %d called, or in another order", len(order), len(all.probes))
		}
		for i, p := range all.probes {
			if want := map[bool]int{true: 1}[leaves(i)]; p.hangups != want {
				t.Errorf("source %d: %d hangups, want %d", i, p.hangups, want)
			}
			p.Retire()
		}
	})
}

// goroutinesCreated is how many goroutines this process has started.
func goroutinesCreated(t *testing.T) uint64 {
	t.Helper()
	sample := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		t.Fatal("the runtime does not count them")
	}
	return sample[0].Value.Uint64()
}

// TestRetireAnother has many sources ready in one batch; the first one called retires all of them. No other is called,
// and no number is free for reuse before the batch is over.
func TestRetireAnother(t *testing.T) {
	l := newLoop(t)
	called := 0
	all := readySources(t, 20, func(_ *probe, all []*probe) {
		called++
		numbers := map[int]bool{}
		for _, p := range all {
			numbers[p.FD()] = true
			p.Retire()
		}
		for range all { // numbers are given lowest first: a free one would come back
			n, err := unix.Dup(0)
			if err != nil || numbers[n] {
				t.Errorf("number %d is free within the batch: %v", n, err)
			}
			defer unix.Close(n)
		}
	})
	all.attach(t, l)
	turns(t, l, 2)
	on(t, l, func() {
		if called != 1 || l.Sources() != 0 {
			t.Errorf("%d of %d called in one batch, %d sources left", called, len(all.probes), l.Sources())
		}
	})
}

// TestAttachAnewWithinTheBatch is TestRetireAnother for sources that get a new life at once: the readiness fetched for
// the earlier attachment is not reported to the new one.
func TestAttachAnewWithinTheBatch(t *testing.T) {
	l := newLoop(t)
	called := 0
	all := readySources(t, 20, func(me *probe, all []*probe) {
		if called++; called > 1 {
			return
		}
		for _, p := range all {
			readAll(p.FD())
			if err := p.Attach(l, p.Detach(), p); err != nil {
				t.Error(err)
			}
		}
	})
	all.attach(t, l)
	turns(t, l, 2)
	on(t, l, func() {
		if l.Sources() != len(all.probes) {
			t.Errorf("%d sources, want %d", l.Sources(), len(all.probes))
		}
		// netpoll of a race build finds operators by descriptor number and not by what was registered, so there the
		// new attachment does hear of it: an empty hint.
		if !raceBuild && called != 1 {
			t.Errorf("%d called, with the readiness of an earlier attachment", called)
		}
	})
	write(t, all.far[7], "again")
	turns(t, l, 2)
	on(t, l, func() {
		if all.probes[7].readable == 0 {
			t.Error("the new attachment hears nothing")
		}
	})
}

type sourceSet struct {
	probes []*probe
	near   []loop.FD
	far    []int
}

// readySources makes n sources with a byte to read each; attached in one turn they come in one batch.
func readySources(t *testing.T, n int, onReadable func(me *probe, all []*probe)) *sourceSet {
	set := &sourceSet{}
	for range n {
		near, far := socketPair(t)
		write(t, far, "x")
		p := &probe{onReadable: func(p *probe) { onReadable(p, set.probes) }}
		set.probes, set.near, set.far = append(set.probes, p), append(set.near, near), append(set.far, far)
	}
	return set
}

func (s *sourceSet) attach(t *testing.T, l *loop.Loop) {
	t.Helper()
	on(t, l, func() {
		for i, p := range s.probes {
			if err := p.Attach(l, s.near[i], p); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestDetachToPause leaves epoll with bytes unread, comes back with a fresh operator, in another turn and in the same
// callback, and misses nothing.
func TestDetachToPause(t *testing.T) {
	l := newLoop(t)
	near, far := socketPair(t)
	var paused loop.FD
	stopped, got := make(chan struct{}), make(chan string, 1)
	p := &probe{onReadable: func(p *probe) {
		switch p.readable {
		case 1:
			paused = p.Detach()
			close(stopped)
		case 2: // again at once, inside its own callback
			if err := p.Attach(l, p.Detach(), p); err != nil {
				t.Error(err)
			}
		default:
			data, _ := readAll(p.FD())
			got <- data
		}
	}}
	attach(t, l, p, near)
	write(t, far, "waits ")
	await(t, stopped, "the pause")
	write(t, far, "for you")
	turns(t, l, 3)
	on(t, l, func() {
		if p.readable != 1 || p.Attached() || p.FD() != -1 || !paused.Valid() {
			t.Errorf("while paused: %d readable, attached %v", p.readable, p.Attached())
		}
		if empty := p.Detach(); empty.Valid() {
			t.Error("Detach of a detached source gave a descriptor")
		}
	})
	attach(t, l, p, paused)
	if data := await(t, got, "the bytes that waited"); data != "waits for you" {
		t.Fatalf("read %q", data)
	}
}

// TestRetireWhileTheSenderHoldsACopy: close(2) does not take a socket out of epoll while another copy of it is open
// (P-13, epoll(7) Q6). Retire must, or the readiness of a client that is gone reaches whoever has its operator next.
func TestRetireWhileTheSenderHoldsACopy(t *testing.T) {
	l := newLoop(t)
	near, far := tcpPair(t)
	copied, err := unix.FcntlInt(uintptr(near.Int()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	closeWithTest(t, copied)
	p, next := &probe{}, &probe{}
	attach(t, l, p, near)
	on(t, l, p.Retire)
	turns(t, l, 2)
	nextFD, _ := socketPair(t)
	attach(t, l, next, nextFD)
	write(t, far, "for the one that is gone")
	turns(t, l, 3)
	closeNow(t, far)
	turns(t, l, 3)
	on(t, l, func() {
		if p.readable+p.hangups != 0 {
			t.Errorf("after Retire: %d readable, %d hangups", p.readable, p.hangups)
		}
		if next.readable+next.hangups != 0 {
			t.Errorf("the next client hears of the one before: %d readable, %d hangups", next.readable, next.hangups)
		}
	})
}

// TestOperatorsAreReused: netpoll's operators go back with each client and with each Attach that fails, or a daemon
// would grow by 104 bytes for every client that it ever had.
func TestOperatorsAreReused(t *testing.T) {
	l := newLoop(t)
	before := 0
	on(t, l, func() { before = loop.Operators(l) })
	for range 500 {
		near, _ := socketPair(t)
		p := &probe{}
		attach(t, l, p, near)
		on(t, l, func() {
			if err := (&probe{}).Attach(l, loop.FD{}, p); err == nil {
				t.Error("attached no descriptor")
			}
			p.Retire()
		})
	}
	on(t, l, func() {
		// Freed ones come back in batches, and netpoll makes new ones by the dozen.
		if after := loop.Operators(l); after > before+2*loop.FreedBatch {
			t.Errorf("%d operators for one client at a time, %d before", after, before)
		}
	})
}

func TestAttachErrors(t *testing.T) {
	l := newLoop(t)
	near, _ := socketPair(t)
	number := near.Int()
	file, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(file)
	p, twin := &probe{}, &probe{}
	attach(t, l, p, near)
	on(t, l, func() {
		if err := twin.Attach(l, loop.FD{}, twin); !errors.Is(err, unix.EBADF) {
			t.Errorf("no descriptor: %v", err)
		}
		if err := twin.Attach(l, loop.OwnFD(file), twin); !errors.Is(err, unix.EPERM) {
			t.Errorf("a regular file: %v", err)
		}
		if twin.Attached() || twin.FD() != -1 || l.Sources() != 1 {
			t.Errorf("after the errors: attached %v, %d sources", twin.Attached(), l.Sources())
		}
		defer func() {
			if v := recover(); v == nil || p.FD() != number {
				t.Errorf("a second Attach: recovered %v", v)
			}
		}()
		_ = p.Attach(l, loop.FD{}, p)
	})
}

func TestEachMayRetireWhatItVisits(t *testing.T) {
	l := newLoop(t)
	set := readySources(t, 50, func(p *probe, _ []*probe) { readAll(p.FD()) })
	set.attach(t, l)
	on(t, l, func() {
		seen := map[loop.Handler]int{}
		l.Each(func(h loop.Handler) {
			if seen[h]++; len(seen)%2 == 0 {
				h.(*probe).Retire()
			}
		})
		for _, p := range set.probes {
			if seen[p] != 1 {
				t.Errorf("visited %d times", seen[p])
			}
		}
		if len(seen) != 50 || l.Sources() != 25 {
			t.Errorf("%d visited, %d left", len(seen), l.Sources())
		}
	})
}
