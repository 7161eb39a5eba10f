package loop

import (
	"fmt"
	"math"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// How a loop waits. To give the P up is what costs: the runtime's monitor thread takes it away, and when the last P has
// gone it goes to sleep, to be woken with the loop and to look around every 20 us for a while. So a loop that has had
// work lately waits with its P in hand (RawSyscall: the runtime is not told). Other goroutines need a P meanwhile, so this
// is done only while GOMAXPROCS is above the number of loops. BenchmarkWakeTimer, one wake-up per tick, on 2 cores of a
// Xeon: 45 us of CPU for each wake-up with the P given up, 16 with the P held.
const (
	// holdFor is how long after its last work a loop holds its P: about as long as holding costs what giving up and
	// coming back does.
	holdFor = time.Second
	// holdSlice bounds one wait with the P in hand: below the 10 ms after which the runtime preempts, see yieldEvery.
	holdSlice = 8 * time.Millisecond
	// yieldEvery is how often a loop lets other goroutines of its P run. It must be less than 10 ms: a goroutine that
	// ran for longer is interrupted by a signal, and an idle P is woken up to look for something to steal, which often
	// is the loop itself: 100 times a second, its thread and its CPU changed, and its caches were cold. Measured with
	// 18,000 streams of an event per second: 7 % of all CPU.
	yieldEvery = TickLength
	// forever: no deadline.
	forever = time.Duration(1<<63 - 1)
)

// yield puts the goroutine at the end of its P's own queue. Unlike runtime.Gosched it wakes no other P, which would
// steal the goroutine. It is one of the symbols that the runtime keeps for packages outside (go.dev/issue/67401).
//
//go:linkname yield runtime.goyield
func yield()

// wait waits until something is ready or a deadline has come, and says how many entries of batch it has filled.
func (l *Loop) wait(batch []struct{}) (ready int) {
	for {
		now := l.Clock()
		if now-l.yielded >= yieldEvery {
			l.yielded = now
			yield()
			now = l.Clock() // others may have run
			l.mayHold = runtime.GOMAXPROCS(0) > l.poolSize
		}
		timeout := forever
		if at, ok := l.wheel.Next(); ok {
			timeout = max(0, at-now)
		}
		hold := l.mayHold && now-l.now < holdFor // l.now: of the last turn
		if l.polling {
			timeout = min(timeout, pollEvery)
		}
		slice := timeout
		if hold {
			slice = min(timeout, holdSlice)
		}
		n := l.epoll.waitReady(batch, slice, hold)
		if n > 0 || n == 0 && slice == timeout {
			return max(0, n)
		}
	}
}

// waitReady waits for at most timeout and says how many entries of batch, up to its capacity, it has filled; -1 when a
// signal ended the wait, perhaps to preempt the goroutine, which takes a return to Go code.
func (e *epoll) waitReady(batch []struct{}, timeout time.Duration, hold bool) int {
	// Neither the batch nor e moves or goes away meanwhile: both are on the heap, and e is the loop's.
	events, room := uintptr(e.event(batch, 0)), uintptr(cap(batch))
	number, limit := uintptr(unix.SYS_EPOLL_PWAIT2), uintptr(0) // no limit
	switch {
	case e.coarse:
		number, limit = unix.SYS_EPOLL_PWAIT, uintptr(milliseconds(timeout))
	case timeout != forever:
		e.timeout = timespec{int64(timeout / time.Second), int64(timeout % time.Second)}
		limit = uintptr(unsafe.Pointer(&e.timeout))
	}
	var n uintptr
	var errno unix.Errno
	if hold {
		n, _, errno = unix.RawSyscall6(number, uintptr(e.fd), events, room, limit, 0, 0)
	} else {
		n, _, errno = unix.Syscall6(number, uintptr(e.fd), events, room, limit, 0, 0)
	}
	switch errno {
	case 0:
		return int(n)
	case unix.EINTR:
		return -1
	}
	panic(fmt.Sprintf("loop: epoll_wait: %v", errno))
}

// timespec is struct __kernel_timespec: of 64 bits on every architecture, which unix.Timespec is not.
type timespec struct{ sec, nsec int64 }

// milliseconds is a timeout of epoll_pwait(2): rounded up, as a timer must not fire early; -1 is for ever.
func milliseconds(timeout time.Duration) int32 {
	if timeout == forever {
		return -1
	}
	return int32(min((timeout+time.Millisecond-1)/time.Millisecond, math.MaxInt32))
}

// hasPwait2 reports whether the kernel waits with nanoseconds: from Linux 5.11 on, unless a seccomp filter that does not
// know the call is in the way.
func (e *epoll) hasPwait2() bool {
	var none timespec
	var room [32]byte // for one event, whatever its layout
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(e.fd), uintptr(unsafe.Pointer(&room)), 1,
		uintptr(unsafe.Pointer(&none)), 0, 0)
	return errno != unix.ENOSYS && errno != unix.EPERM
}
