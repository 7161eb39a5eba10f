package loop

import (
	"bytes"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"syscall"
	"unsafe"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"
)

// netpoll exports Poll and FDOperator but no way to make a Poll of one's own; its public Connection parks goroutines
// and loses SCM_RIGHTS. The line below reaches its constructor (the empty netpoll.s allows a function without body).
// This file holds all that depends on the insides of netpoll v0.7.2; TestNetpollContract fails when they change.
//
//go:linkname openPoll github.com/cloudwego/netpoll.openPoll
func openPoll() (netpoll.Poll, error)

// batchSlots is how many ready descriptors one epoll_wait reports at most.
const batchSlots = 512

// batchFunc has the calling convention of netpoll's func([]epollevent) bool: a slice is a pointer, a length and a
// capacity whatever its element, and we only pass it on.
type batchFunc = func(batch []struct{}) (closed bool)

// newPoll opens a poll whose batches go through around, which must call the function that it is given exactly once
// and return what that returns. Between batches we wait ourselves (see holdFor): netpoll's Wait would ask epoll twice
// and yield to the scheduler in between. back says that netpoll has to have its turn: it makes freed operators reusable,
// and it sees the end of the poll, nowhere but in Wait. The caller owns the poll: it ends with poll.Close, after which
// Wait returns.
func newPoll(around func(dispatch func() bool) bool, back func() bool) (netpoll.Poll, error) {
	routeNetpollLog()
	syscall.ForkLock.RLock() // no child may be forked between the creation of the descriptors and their CLOEXEC
	defer syscall.ForkLock.RUnlock()
	poll, err := openPoll()
	if err != nil {
		return nil, fmt.Errorf("loop: open poll: %w", err)
	}
	p := reflect.ValueOf(poll).Elem()
	epollFD, wakeFD := int(p.FieldByName("fd").Int()), int(p.FieldByName("wop").Elem().FieldByName("FD").Int())
	unix.CloseOnExec(epollFD)
	unix.CloseOnExec(wakeFD)

	// Wait doubles its batch on each full one, up to 131,072 slots with 1.3 KB of buffers each, which only netpoll's
	// own connections use: a storm of 9,000 hangups left 1,341 bytes per stream behind. We keep one small batch.
	other := func(field string, t reflect.Type) error {
		_ = unix.Close(epollFD)
		_ = unix.Close(wakeFD)
		return errNetpollLayout(field, t)
	}
	reset := p.FieldByName("Reset")
	resetOnce, ok := reset.Interface().(func(size, caps int))
	if !ok {
		return nil, other("Reset", reset.Type())
	}
	var once sync.Once
	reset.Set(reflect.ValueOf(func(int, int) { once.Do(func() { resetOnce(batchSlots, 0) }) }))

	// There is no hook after a batch; wrapping Handler makes one without an eventfd round trip.
	handler := p.FieldByName("Handler")
	if t := handler.Type(); t.Kind() != reflect.Func || t.NumIn() != 1 || t.NumOut() != 1 ||
		t.In(0).Kind() != reflect.Slice || t.Out(0).Kind() != reflect.Bool || t.IsVariadic() {
		return nil, other("Handler", t)
	}
	field := (*batchFunc)(unsafe.Pointer(handler.Addr().Pointer()))
	inner := *field
	var batch []struct{} // of the dispatch under way; lives outside the closure so that a batch allocates nothing
	dispatch := func() bool { return inner(batch) }
	*field = func(b []struct{}) bool {
		for {
			batch = b
			if around(dispatch) {
				return true
			}
			if back() {
				return false
			}
			b = b[:epollWait(epollFD, b)]
		}
	}
	return poll, nil
}

// holdFor is how long a loop that has just had work waits with its P in hand, in milliseconds. Giving the P up for a
// short wait is what costs: the runtime's monitor thread takes it away, goes to sleep, and is woken again with the loop
// (measured, BenchmarkWakeTimer: 45 us of CPU for each wake-up, and 16 with the P held; BenchmarkTimers18000: 1.3 and
// 0.7 us for each timer). Other goroutines need a P of their own meanwhile: GOMAXPROCS should be above the number of
// loops. A runtime that must stop the loop interrupts the wait by a signal.
const holdFor = 8

// epollWait waits until something is ready and says how many entries of batch, up to its capacity, it has filled. It
// may return early with none.
func epollWait(epollFD int, batch []struct{}) int {
	events, room := uintptr(unsafe.Pointer(unsafe.SliceData(batch))), uintptr(cap(batch))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epollFD), events, room, holdFor, 0, 0)
	if n == 0 && errno == 0 {
		n, _, errno = unix.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(epollFD), events, room, ^uintptr(0), 0, 0)
	}
	switch errno {
	case 0:
		return int(n)
	case unix.EINTR: // perhaps to be preempted, which takes a return to Go code
		return 0
	}
	panic(fmt.Sprintf("loop: epoll_wait: %v", errno))
}

func errNetpollLayout(field string, t reflect.Type) error {
	return fmt.Errorf("loop: netpoll's field %s is a %v: this version of netpoll is not the one that loop was written for", field, t)
}

// routeNetpollLog sends netpoll's log lines to slog. They speak of bugs (ours or its), so they are warnings.
var routeNetpollLog = sync.OnceFunc(func() { netpoll.SetLoggerOutput(netpollLog{}) })

type netpollLog struct{}

func (netpollLog) Write(line []byte) (int, error) {
	slog.Warn("netpoll", "line", string(bytes.TrimSpace(line)))
	return len(line), nil
}
