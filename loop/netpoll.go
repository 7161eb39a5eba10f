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

// batchSlots is how many ready descriptors one wait reports at most.
const batchSlots = 512

// batchFunc has the calling convention of netpoll's func([]epollevent) bool: a slice is a pointer, a length and a
// capacity whatever its element. A batch is never indexed, as its elements have no size here: see epoll.event.
type batchFunc = func(batch []struct{}) (closed bool)

// epoll is netpoll's Poll with hooks around its batches. Loop goroutine only, but for Trigger.
type epoll struct {
	netpoll.Poll
	hooks   epollHooks
	fd      int         // of epoll
	slot    uintptr     // size of netpoll's epollevent
	inner   batchFunc   // netpoll's handler
	batch   []struct{}  // of the turn under way
	hangup  hangup      // of the event under way
	next    func() bool // dispatch, bound once so that a turn allocates nothing
	coarse  bool        // the kernel counts timeouts in milliseconds
	timeout timespec    // of the wait under way
}

// epollHooks is what the owner of an epoll does around its batches.
type epollHooks struct {
	// turn is called with each batch. It must call dispatch exactly once and return what that returns.
	turn func(dispatch func() bool) (closed bool)
	// wait waits for a batch with waitReady, which may give up early with none.
	wait func(batch []struct{}) (ready int)
	// back says that netpoll's Wait has to have its turn: it makes freed operators reusable, and it sees the end of
	// the poll, nowhere but there.
	back func() bool
}

// hangup says whether the event whose OnRead is being called has the bits of a hangup.
type hangup uint8

const (
	noHangup       hangup = iota
	hangupReadable        // with something to be read, the end of the stream at least
	hangupOnly
)

// openEpoll opens a poll. The caller owns it: it runs Wait, ends it with Close, after which Wait returns.
func openEpoll(hooks epollHooks) (*epoll, error) {
	routeNetpollLog()
	syscall.ForkLock.RLock() // no child may be forked between the creation of the descriptors and their CLOEXEC
	defer syscall.ForkLock.RUnlock()
	poll, err := openPoll()
	if err != nil {
		return nil, fmt.Errorf("loop: open poll: %w", err)
	}
	p := reflect.ValueOf(poll).Elem()
	e := &epoll{Poll: poll, hooks: hooks, fd: int(p.FieldByName("fd").Int())}
	e.next = e.dispatch
	wakeFD := int(p.FieldByName("wop").Elem().FieldByName("FD").Int())
	unix.CloseOnExec(e.fd)
	unix.CloseOnExec(wakeFD)
	other := func(field string, t reflect.Type) error {
		_ = unix.Close(e.fd)
		_ = unix.Close(wakeFD)
		return errNetpollLayout(field, t)
	}

	// Wait doubles its batch on each full one, up to 131,072 slots with 1.3 KB of buffers each, which only netpoll's
	// own connections use: a storm of 9,000 hangups left 1,341 bytes per stream behind. We keep one small batch.
	reset := p.FieldByName("Reset")
	resetOnce, ok := reset.Interface().(func(size, caps int))
	if !ok {
		return nil, other("Reset", reset.Type())
	}
	var once sync.Once
	reset.Set(reflect.ValueOf(func(int, int) { once.Do(func() { resetOnce(batchSlots, 0) }) }))

	// There is no hook around a batch; wrapping Handler makes one.
	handler := p.FieldByName("Handler")
	t := handler.Type()
	if t.Kind() != reflect.Func || t.NumIn() != 1 || t.NumOut() != 1 || t.In(0).Kind() != reflect.Slice ||
		t.In(0).Elem().Kind() != reflect.Struct || t.Out(0).Kind() != reflect.Bool || t.IsVariadic() {
		return nil, other("Handler", t)
	}
	event := t.In(0).Elem()
	if bits, ok := event.FieldByName("events"); !ok || bits.Type.Kind() != reflect.Uint32 || bits.Offset != 0 {
		return nil, other("Handler", t)
	}
	e.slot = event.Size()
	field := (*batchFunc)(unsafe.Pointer(handler.Addr().Pointer()))
	e.inner = *field
	e.coarse = !e.hasPwait2()
	*field = e.handle
	return e, nil
}

// handle stands in for netpoll's handler. netpoll's Wait would ask epoll twice and yield to the scheduler in between,
// so it is left waiting here, and we wait ourselves for the next batch.
func (e *epoll) handle(batch []struct{}) (closed bool) {
	for {
		e.batch = batch
		if e.hooks.turn(e.next) {
			return true
		}
		if e.hooks.back() {
			return false
		}
		batch = batch[:e.hooks.wait(batch)]
	}
}

// dispatch passes the batch on to netpoll's handler. A hangup goes alone and looks like data: netpoll would detach the
// operator and start a goroutine for OnHup, with each batch that holds one. Our OnRead looks at e.hangup.
func (e *epoll) dispatch() (closed bool) {
	batch, from := e.batch, 0
	for i := range batch {
		bits := e.bits(batch, i)
		if *bits&(unix.EPOLLHUP|unix.EPOLLRDHUP) == 0 {
			continue
		}
		if e.pass(batch, from, i) {
			return true
		}
		from = i + 1
		e.hangup = hangupOnly
		if *bits&unix.EPOLLIN != 0 {
			e.hangup = hangupReadable
		}
		*bits = unix.EPOLLIN
		closed := e.pass(batch, i, from)
		e.hangup = noHangup
		if closed {
			return true
		}
	}
	return e.pass(batch, from, len(batch))
}

// bits is the readiness of event i of a batch.
func (e *epoll) bits(batch []struct{}, i int) *uint32 { return (*uint32)(e.event(batch, i)) }

func (e *epoll) event(batch []struct{}, i int) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(batch)), uintptr(i)*e.slot)
}

// pass gives events from to to, the latter not included, to netpoll.
func (e *epoll) pass(batch []struct{}, from, to int) (closed bool) {
	if from == to {
		return false
	}
	return e.inner(unsafe.Slice((*struct{})(e.event(batch, from)), to-from))
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
