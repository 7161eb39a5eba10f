package loop_test

import (
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// TestTurnAllocatesNothing: no turn allocates, whatever woke it.
func TestTurnAllocatesNothing(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector allocates")
	}
	l := newLoop(t)
	var count atomic.Int64
	near, far := socketPair(t)
	var buf [8]byte
	var p *probe
	p = &probe{
		onReadable: func(*probe) {
			_, _ = loop.Recv(p.FD(), buf[:])
			_ = p.Want(true)
		},
		onWritable: func(*probe) {
			_ = p.Want(false)
			count.Add(1)
		},
	}
	attach(t, l, p, near)
	timer := newFirer(func() { count.Add(1) })
	arm := func() { l.Arm(&timer.Timer, l.Now()) }
	posted := func() { count.Add(1) }
	one := []byte("x")
	for name, cause := range map[string]func(){
		"readiness": func() { _, _ = loop.Send(far, one) },
		"post":      func() { _ = l.Post(posted) },
		"timer":     func() { _ = l.Post(arm) },
	} {
		got := testing.AllocsPerRun(50, func() {
			want := count.Load() + 1
			cause()
			waitUntil(t, name, func() bool { return count.Load() >= want })
		})
		if got != 0 {
			t.Errorf("%s: %v allocations per turn", name, got)
		}
	}
}

// cpuTime is what this process has used, user and system.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU adds what an operator pays for to a benchmark of n operations.
func reportCPU(b *testing.B, since time.Duration) {
	b.ReportMetric(float64((cpuTime(b)-since).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkTurnPost is a turn for a posted function that posts the next: a loop that never sleeps.
func BenchmarkTurnPost(b *testing.B) {
	l := newLoop(b)
	done := make(chan struct{})
	n := 0
	var again func()
	again = func() {
		if n++; n == b.N {
			close(done)
			return
		}
		_ = l.Post(again)
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	_ = l.Post(again)
	await(b, done, "the last turn")
	reportCPU(b, cpu)
}

// BenchmarkTurnReadable is a turn for a byte that is read and answered by a byte to another source of the same loop.
func BenchmarkTurnReadable(b *testing.B) {
	l := newLoop(b)
	done := make(chan struct{})
	n := 0
	near, far := socketPair(b)
	farFD := loop.OwnFD(mustDup(b, far))
	var buf [8]byte
	answer := func(p *probe) {
		if k, _ := loop.Recv(p.FD(), buf[:]); k == 0 {
			return
		}
		if n++; n == b.N {
			close(done)
			return
		}
		_, _ = loop.Send(p.FD(), buf[:1])
	}
	one, other := &probe{onReadable: answer}, &probe{onReadable: answer}
	attach(b, l, one, near)
	attach(b, l, other, farFD)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	_ = l.Post(func() { _, _ = loop.Send(one.FD(), buf[:1]) })
	await(b, done, "the last byte")
	reportCPU(b, cpu)
}

func mustDup(b *testing.B, fd int) int {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkWakePost is a turn of a loop that sleeps and is woken by another loop, which then sleeps itself.
func BenchmarkWakePost(b *testing.B) {
	loops := newPool(b, 2).Loops()
	done := make(chan struct{})
	n := 0
	var there, back func()
	step := func(to *loop.Loop, f func()) {
		if n++; n == b.N {
			close(done)
			return
		}
		_ = to.Post(f)
	}
	there = func() { step(loops[1], back) }
	back = func() { step(loops[0], there) }
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	_ = loops[0].Post(there)
	await(b, done, "the last wake")
	reportCPU(b, cpu)
}

// BenchmarkWakeTimer is a wake-up by a deadline, one per tick (250 per second): what the coarse tick bounds.
func BenchmarkWakeTimer(b *testing.B) { benchTimers(b, 1, tick) }

// BenchmarkTimers18000 is one firing, with a trivial syscall, of 18,000 timers that each fire once per second: the
// timer's share of an event at the size that the daemon is measured at.
func BenchmarkTimers18000(b *testing.B) { benchTimers(b, 18_000, time.Second) }

func benchTimers(b *testing.B, count int, period time.Duration) {
	l := newLoop(b)
	done := make(chan struct{})
	n := 0
	timers := make([]*firer, count)
	for i := range timers {
		timers[i] = newFirer(func() {
			if n++; n == b.N {
				close(done)
			} else if n > b.N {
				return
			}
			_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
			l.Arm(&timers[i].Timer, timers[i].At()+period)
		})
	}
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	on(b, l, func() {
		for i, f := range timers {
			l.Arm(&f.Timer, l.Now()+time.Duration(i)*period/time.Duration(count))
		}
	})
	<-done // as long as it takes: b.N firings at a fixed rate
	reportCPU(b, cpu)
}
