package loop_test

import (
	"fmt"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/cloudwego/netpoll"
	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// TestNetpollContract holds what netpoll.go takes for granted of netpoll's insides. Where it fails after an upgrade,
// read that version's poll_default_linux.go again before anything else.
func TestNetpollContract(t *testing.T) {
	t.Run("layout", contractLayout)
	t.Run("one call around each batch", contractBatches)
	t.Run("batch memory", contractBatchMemory)
	t.Run("an operator is not given out again within its batch", contractFree)
	t.Run("log", contractLog)
	t.Run("close", contractClose)
	t.Run("close-on-exec", contractCloseOnExec)
}

// newPoll opens a poll; the caller runs Wait.
func newPoll(t *testing.T, around func(dispatch func() bool) bool) netpoll.Poll {
	t.Helper()
	poll, err := loop.OpenPoll(around)
	if err != nil {
		t.Fatal(err)
	}
	return poll
}

// wait runs the poll until a callback or around closes it.
func wait(t *testing.T, poll netpoll.Poll) {
	t.Helper()
	over := make(chan error, 1)
	go func() { over <- poll.Wait() }()
	if err := await(t, over, "the end of Wait"); err != nil {
		t.Fatal(err)
	}
}

func contractLayout(t *testing.T) {
	noLeaks(t)
	poll := newPoll(t, func(dispatch func() bool) bool { return dispatch() })
	v := reflect.ValueOf(poll)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		t.Fatalf("a poll is a %v", v.Type())
	}
	for field, want := range map[string]string{
		"fd":       "int",
		"wop":      "*netpoll.FDOperator",
		"Reset":    "func(int, int)",
		"Handler":  "func([]netpoll.epollevent) bool",
		"events":   "[]netpoll.epollevent",
		"barriers": "[]netpoll.barrier",
	} {
		f, ok := v.Elem().Type().FieldByName(field)
		if !ok || f.Type.String() != want {
			t.Errorf("field %s is a %v, want %s", field, f.Type, want)
		}
	}
	epoll, event := loop.PollFDs(poll)
	for fd, want := range map[int]string{epoll: "eventpoll", event: "eventfd"} {
		var found bool
		for _, open := range openFDs(t) {
			found = found || open == fmt.Sprintf("%d -> anon_inode:[%s]", fd, want)
		}
		if !found {
			t.Errorf("descriptor %d is no %s", fd, want)
		}
	}
	_ = poll.Close()
	wait(t, poll)
}

// readyEventFDs registers n eventfds that are readable.
func readyEventFDs(t *testing.T, poll netpoll.Poll, n int, onRead func(op *netpoll.FDOperator)) {
	t.Helper()
	for range n {
		fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		closeWithTest(t, fd)
		op := poll.Alloc()
		op.FD = fd
		op.OnRead = func(netpoll.Poll) error { onRead(op); return nil }
		if err := op.Control(netpoll.PollReadable); err != nil {
			t.Fatal(err)
		}
	}
}

// contractBatches: with more ready than a batch holds, each batch is one call of around, every callback is made inside
// its dispatch, and the first batch is full: 512 and never more.
func contractBatches(t *testing.T) {
	noLeaks(t)
	const ready = 2*loop.BatchSlots + 100
	var poll netpoll.Poll
	var batches []int
	inside, called, total := false, 0, 0
	poll = newPoll(t, func(dispatch func() bool) bool {
		if inside {
			t.Error("around within around")
		}
		inside, called = true, 0
		closed := dispatch()
		inside = false
		if called > 0 {
			batches = append(batches, called)
			if total += called; total == ready {
				_ = poll.Close()
			}
		}
		return closed
	})
	readyEventFDs(t, poll, ready, func(op *netpoll.FDOperator) {
		if called++; !inside {
			t.Error("a callback outside of dispatch")
		}
		if err := op.Control(netpoll.PollDetach); err != nil {
			t.Error(err)
		}
	})
	wait(t, poll)
	if want := []int{loop.BatchSlots, loop.BatchSlots, 100}; !reflect.DeepEqual(batches, want) {
		t.Errorf("batches of %v, want %v", batches, want)
	}
}

// contractBatchMemory: after a storm that fills batch after batch, netpoll holds the one small batch it began with.
func contractBatchMemory(t *testing.T) {
	noLeaks(t)
	var poll netpoll.Poll
	full := 0
	called := 0
	poll = newPoll(t, func(dispatch func() bool) bool {
		called = 0
		closed := dispatch()
		if called == loop.BatchSlots {
			full++
		}
		if full == 10 {
			_ = poll.Close()
		}
		return closed
	})
	readyEventFDs(t, poll, 4*loop.BatchSlots, func(*netpoll.FDOperator) { called++ }) // not read: ready again and again
	wait(t, poll)
	v := reflect.ValueOf(poll).Elem()
	events, barriers := v.FieldByName("events"), v.FieldByName("barriers")
	if events.Cap() != loop.BatchSlots || barriers.Cap() != loop.BatchSlots {
		t.Errorf("%d slots and %d barriers after a storm", events.Cap(), barriers.Cap())
	}
	for i := range barriers.Len() {
		for _, buffers := range []string{"bs", "ivs"} {
			if n := barriers.Index(i).FieldByName(buffers).Cap(); n != 0 {
				t.Fatalf("barrier %d has room for %d %s", i, n, buffers)
			}
		}
	}
}

// contractFree: what the sweep frees, in around and after dispatch, does not come out of Alloc before the batch is
// over; then it does, or the cache would grow with each client.
func contractFree(t *testing.T) {
	noLeaks(t)
	var poll netpoll.Poll
	var freed *netpoll.FDOperator
	batch := 0
	poll = newPoll(t, func(dispatch func() bool) bool {
		closed := dispatch()
		if batch++; batch == 1 {
			poll.Free(freed)
			if op := poll.Alloc(); op == freed {
				t.Error("given out again within the batch")
			} else {
				poll.Free(op)
			}
			_ = poll.Trigger()
		} else if batch == 2 {
			first, second := poll.Alloc(), poll.Alloc()
			if first != freed && second != freed {
				t.Error("not given out again after the batch")
			}
			_ = poll.Close()
		}
		return closed
	})
	readyEventFDs(t, poll, 1, func(op *netpoll.FDOperator) {
		freed = op
		if err := op.Control(netpoll.PollDetach); err != nil {
			t.Error(err)
		}
	})
	wait(t, poll)
	if batch != 3 {
		t.Errorf("%d batches: one of readiness, one of the wake, one of the close", batch)
	}
}

// contractLog: netpoll's own log lines reach slog. It logs an operator without callbacks.
func contractLog(t *testing.T) {
	noLeaks(t)
	log := captureLog(t)
	var poll netpoll.Poll
	var op *netpoll.FDOperator
	poll = newPoll(t, func(dispatch func() bool) bool {
		closed := dispatch()
		if op != nil {
			_ = op.Control(netpoll.PollDetach)
			op = nil
			_ = poll.Close()
		}
		return closed
	})
	fd, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	closeWithTest(t, fd)
	op = poll.Alloc()
	op.FD = fd
	if err := op.Control(netpoll.PollReadable); err != nil {
		t.Fatal(err)
	}
	wait(t, poll)
	if text := log.String(); !strings.Contains(text, "level=WARN msg=netpoll") || !strings.Contains(text, "critical problem") {
		t.Errorf("logged %q", text)
	}
}

// contractClose: Close, with a Trigger beside it, ends Wait without an error, and both descriptors are closed then.
func contractClose(t *testing.T) {
	noLeaks(t)
	poll := newPoll(t, func(dispatch func() bool) bool { return dispatch() })
	epoll, event := loop.PollFDs(poll)
	if err := poll.Trigger(); err != nil {
		t.Fatal(err)
	}
	if err := poll.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, poll)
	for _, fd := range []int{epoll, event} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
			t.Errorf("descriptor %d is open after Close: %v", fd, err)
		}
	}
}

// contractCloseOnExec: no descriptor of a loop is seen by a child.
func contractCloseOnExec(t *testing.T) {
	p := newPool(t, 2)
	for _, l := range p.Loops() {
		on(t, l, func() {
			for _, fd := range loop.LoopFDs(l) {
				if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
					t.Errorf("descriptor %d has flags %d: %v", fd, flags, err)
				}
			}
		})
	}
	inChild, err := exec.Command("ls", "-l", "/proc/self/fd").CombinedOutput()
	if err != nil || !strings.Contains(string(inChild), "-> ") {
		t.Fatalf("%v: %s", err, inChild)
	}
	for _, kind := range []string{"eventpoll", "eventfd"} {
		if strings.Contains(string(inChild), kind) {
			t.Errorf("a child has our %s:\n%s", kind, inChild)
		}
	}
}
