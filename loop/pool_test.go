package loop_test

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

func TestNewPoolOfNone(t *testing.T) {
	if p, err := loop.NewPool(0); err == nil || p != nil {
		t.Fatalf("%v, %v", p, err)
	}
}

func TestPoolHasOneClock(t *testing.T) {
	p := newPool(t, 3)
	last := p.Loops()[0].Clock()
	for i := range 30 {
		l := p.Loops()[i%3]
		if l.Index() != i%3 {
			t.Fatalf("loop %d says it is %d", i%3, l.Index())
		}
		now := l.Clock()
		if now < last {
			t.Fatalf("loop %d reads %v, another one read %v before", i%3, now, last)
		}
		last = now
	}
}

// TestCloseLeavesNothing closes pools with everything under way: attached sources, unread bytes, hangups that netpoll
// has just passed to a goroutine, armed timers, posted functions.
func TestCloseLeavesNothing(t *testing.T) {
	noLeaks(t)
	for range 30 {
		p, err := loop.NewPool(3)
		if err != nil {
			t.Fatal(err)
		}
		var numbers []int
		var ran atomic.Int32
		for _, l := range p.Loops() {
			for i := range 20 {
				near, far := socketPair(t)
				numbers = append(numbers, near.Int())
				attach(t, l, &probe{}, near)
				if i%2 == 0 {
					closeNow(t, far) // nobody reads it: Hangup, or Close comes first
				}
			}
			late := newFirer(func() {})
			if err := l.Post(func() { ran.Add(1); l.Arm(&late.Timer, l.Now()) }); err != nil {
				t.Fatal(err)
			}
		}
		p.Close()
		p.Close() // twice is safe
		if ran.Load() != 3 {
			t.Error("what was posted before Close did not run")
		}
		for _, n := range numbers {
			if _, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0); err != unix.EBADF {
				t.Fatalf("descriptor %d of an attached source is open: %v", n, err)
			}
		}
	}
}

// closeInOneTurn runs f on a loop and Close's own function right behind it, with time for timers in between.
func closeInOneTurn(t *testing.T, f func(l *loop.Loop)) {
	t.Helper()
	p, err := loop.NewPool(1)
	if err != nil {
		t.Fatal(err)
	}
	l := p.Loops()[0]
	busy, closing := make(chan struct{}), make(chan struct{})
	if err := l.Post(func() { close(busy); await(t, closing, "Close"); f(l) }); err != nil {
		t.Fatal(err)
	}
	await(t, busy, "the loop")
	over := make(chan struct{})
	go func() { p.Close(); close(over) }()
	waitUntil(t, "Close to post its function", func() bool { return loop.Posted(l) > 0 })
	close(closing)
	await(t, over, "Close")
}

// TestCloseFiresNoTimer: one that comes due in the turn of the close stays silent.
func TestCloseFiresNoTimer(t *testing.T) {
	noLeaks(t)
	fired := 0
	timer := newFirer(func() { fired++ })
	closeInOneTurn(t, func(l *loop.Loop) {
		// Behind Close's own function: this turn's timers are looked at after it.
		if err := l.Post(func() {
			l.Arm(&timer.Timer, l.Now())
			for due := loop.TickEnd(l.Now()+1) + tick; l.Clock() < due; {
				runtime.Gosched()
			}
		}); err != nil {
			t.Error(err)
		}
	})
	if fired != 0 || !timer.Armed() {
		t.Errorf("%d fired, armed %v", fired, timer.Armed())
	}
}

// TestAttachWhileClosing: a client that is posted to a loop just as that closes is refused, and the descriptor stays
// with the caller. A loop that took it would never close it.
func TestAttachWhileClosing(t *testing.T) {
	noLeaks(t)
	near, _ := socketPair(t)
	p := &probe{}
	closeInOneTurn(t, func(l *loop.Loop) {
		if err := l.Post(func() {
			if err := p.Attach(l, near, p); !errors.Is(err, loop.ErrClosed) {
				t.Errorf("Attach gives %v", err)
			}
			if p.Attached() || l.Sources() != 0 {
				t.Errorf("attached %v, %d sources", p.Attached(), l.Sources())
			}
		}); err != nil {
			t.Error(err)
		}
	})
	if err := near.Close(); err != nil {
		t.Errorf("the descriptor is gone: %v", err)
	}
}

// TestNewPoolAtTheDescriptorLimit lets NewPool run out of descriptors at each place it can, and checks that it gives
// back what it had.
func TestNewPoolAtTheDescriptorLimit(t *testing.T) {
	noLeaks(t)
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	before := fmt.Sprint(openFDs(t))
	const loops, each = 3, 2 // descriptors per loop: epoll, eventfd
	failures := 0
	for room := 0; ; room++ {
		p, err := poolWithRoom(t, loops, room, limit)
		if err == nil {
			p.Close()
			break
		}
		failures++
		if !errors.Is(err, unix.EMFILE) || p != nil {
			t.Fatalf("room for %d: pool %v, %v", room, p, err)
		}
		if after := fmt.Sprint(openFDs(t)); after != before {
			t.Fatalf("room for %d: open before %s, after %s", room, before, after)
		}
	}
	if failures != loops*each {
		t.Errorf("%d failures, want one for each of %d descriptors", failures, loops*each)
	}
}

// poolWithRoom makes a pool while the process may open room more descriptors.
func poolWithRoom(t *testing.T, loops, room int, limit unix.Rlimit) (*loop.Pool, error) {
	t.Helper()
	// The limit is on numbers, not on how many are open: take every free number below the highest one open.
	var filler []int
	defer func() {
		for _, fd := range filler {
			_ = unix.Close(fd)
		}
	}()
	top := 0
	for _, open := range openFDs(t) {
		var n int
		if _, err := fmt.Sscan(open, &n); err != nil {
			t.Fatal(err)
		}
		top = max(top, n)
	}
	for {
		n, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		filler = append(filler, n)
		if n > top {
			top = n
			break
		}
	}
	low := limit
	low.Cur = uint64(top + 1 + room)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
	}()
	return loop.NewPool(loops)
}
