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
// and return what that returns. The caller owns the poll: it ends with poll.Close, after which Wait returns.
func newPoll(around func(dispatch func() bool) bool) (netpoll.Poll, error) {
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
		batch = b
		return around(dispatch)
	}
	return poll, nil
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
