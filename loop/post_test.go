package loop_test

import (
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// TestPostFromMany: nothing is lost, and each goroutine's functions run in its order.
func TestPostFromMany(t *testing.T) {
	const goroutines, each = 8, 5000
	l := newLoop(t)
	var next [goroutines]int // owned by the loop
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				err := l.Post(func() {
					if next[g] != i {
						t.Errorf("goroutine %d: %d ran in place of %d", g, i, next[g])
					}
					next[g]++
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	on(t, l, func() {
		for g, n := range next {
			if n != each {
				t.Errorf("goroutine %d: %d of %d ran", g, n, each)
			}
		}
	})
}

// TestPostFromTheLoop: a posted function that posts is served in the next turn, and readiness in between.
func TestPostFromTheLoop(t *testing.T) {
	l := newLoop(t)
	near, far := socketPair(t)
	p := &probe{onReadable: func(p *probe) { readAll(p.FD()) }}
	attach(t, l, p, near)
	done := make(chan struct{})
	left := 1000
	var again func()
	again = func() {
		if left--; left == 500 {
			write(t, far, "x")
		}
		if left == 498 && p.readable != 1 {
			t.Error("posts from the loop keep a readable source waiting")
		}
		if left == 0 {
			close(done)
		} else if err := l.Post(again); err != nil {
			t.Error(err)
		}
	}
	if err := l.Post(again); err != nil {
		t.Fatal(err)
	}
	await(t, done, "the last of the chain")
}

// TestPostCoalescesWakes: while the loop is busy, ten thousand posts cost one wake, seen as the count that the eventfd
// has: netpoll adds 2^56 for each.
func TestPostCoalescesWakes(t *testing.T) {
	l := newLoop(t)
	busy, free := make(chan int), make(chan struct{})
	if err := l.Post(func() {
		busy <- loop.LoopFDs(l)[1]
		<-free
	}); err != nil {
		t.Fatal(err)
	}
	eventFD := await(t, busy, "the loop")
	ran := 0
	for range 10_000 {
		if err := l.Post(func() { ran++ }); err != nil {
			t.Fatal(err)
		}
	}
	if count := fdInfo(t, eventFD, "eventfd-count"); count != "100000000000000" {
		t.Errorf("eventfd count %s (hex), want that of one wake", count)
	}
	close(free)
	on(t, l, func() {
		if ran != 10_000 {
			t.Errorf("%d ran", ran)
		}
	})
	turns(t, l, 1) // the room for a burst goes with the turn
	on(t, l, func() {
		if room := loop.RunningCap(l); room > loop.PostedKept {
			t.Errorf("room for %d posted functions is kept", room)
		}
	})
}

// TestPostSoonWakesRarely: functions that come faster than the loop polls share its wake-ups; none is lost, and none waits
// for the next one to come.
func TestPostSoonWakesRarely(t *testing.T) {
	if runtime.GOMAXPROCS(0) < 2 {
		t.Skip("a loop does not poll while it has to give its P up")
	}
	const count, gap = 2000, 50 * time.Microsecond
	l := newLoop(t)
	turns, ran := 0, 0 // owned by the loop
	var last time.Duration
	start := time.Now()
	for i := range count {
		for time.Since(start) < time.Duration(i)*gap {
			runtime.Gosched()
		}
		if err := l.PostSoon(func() {
			ran++
			if l.Now() != last {
				turns, last = turns+1, l.Now()
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(start)
	all := make(chan struct{})
	if err := l.PostSoon(func() { close(all) }); err != nil {
		t.Fatal(err)
	}
	await(t, all, "the last one")
	on(t, l, func() {
		if ran != count {
			t.Errorf("%d ran", ran)
		}
		if most := int(took/loop.PollEvery) + count/4; turns > most {
			t.Errorf("%d turns for %d functions in %v, want %d at most", turns, count, took, most)
		}
	})
}

// TestPostWakesAPollingLoop: only PostSoon relies on the loop to look by itself. Seen as the count that the eventfd has.
func TestPostWakesAPollingLoop(t *testing.T) {
	l := newLoop(t)
	busy, free := make(chan int), make(chan struct{})
	if err := l.Post(func() {
		loop.Poll(l)
		busy <- loop.LoopFDs(l)[1]
		<-free
	}); err != nil {
		t.Fatal(err)
	}
	eventFD := await(t, busy, "the loop")
	var order []string
	note := func(s string) func() { return func() { order = append(order, s) } }
	for _, step := range []struct {
		post  func(func()) error
		name  string
		count string
	}{
		{l.PostSoon, "soon", "0"}, {l.Post, "now", "100000000000000"}, {l.PostSoon, "again", "100000000000000"},
	} {
		if err := step.post(note(step.name)); err != nil {
			t.Fatal(err)
		}
		if count := fdInfo(t, eventFD, "eventfd-count"); count != step.count {
			t.Errorf("%s: eventfd count %s (hex), want %s", step.name, count, step.count)
		}
	}
	close(free)
	on(t, l, func() {
		if got := strings.Join(order, " "); got != "soon now again" {
			t.Errorf("ran %s", got)
		}
	})
}

// TestPostRacesClose: each Post either runs or gives ErrClosed, whatever the moment. Some of the posted functions own a
// descriptor and attach it: by the loop that closes it, or refused and theirs to close. None is left in any case.
func TestPostRacesClose(t *testing.T) {
	noLeaks(t)
	attached := 0
	for range 50 {
		p, err := loop.NewPool(2)
		if err != nil {
			t.Fatal(err)
		}
		posters := make([]*closeRacer, 4)
		var wg sync.WaitGroup
		for i := range posters {
			posters[i] = &closeRacer{t: t, l: p.Loops()[i%2], started: make(chan struct{})}
			wg.Go(posters[i].post)
		}
		for _, r := range posters {
			await(t, r.started, "the posters")
		}
		p.Close()
		wg.Wait()
		for _, r := range posters {
			if r.accepted != r.ran {
				t.Fatalf("%d accepted, %d ran", r.accepted, r.ran)
			}
			attached += r.attached
		}
	}
	if attached == 0 {
		t.Fatal("nothing was attached: the race was not run")
	}
}

// closeRacer posts to a loop until that is closed.
type closeRacer struct {
	t        *testing.T
	l        *loop.Loop
	started  chan struct{}
	accepted int // written by post
	ran      int // written on the loop
	attached int // written on the loop
}

func (r *closeRacer) post() {
	for i := 0; ; i++ {
		f := func() { r.ran++ }
		var fd loop.FD
		if i%8 == 0 && i < 512 { // few enough for the table of descriptors
			n, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
			if err != nil {
				r.t.Error(err)
				return
			}
			fd = loop.OwnFD(n)
			f = func() { r.ran++; r.attach(fd) }
		}
		if err := r.l.Post(f); err != nil {
			_ = fd.Close()
			if !errors.Is(err, loop.ErrClosed) {
				r.t.Error(err)
			}
			return
		}
		r.accepted++
		if i == 20 {
			close(r.started)
		}
	}
}

func (r *closeRacer) attach(fd loop.FD) {
	p := &probe{}
	if err := p.Attach(r.l, fd, p); err == nil {
		r.attached++
	} else if _ = fd.Close(); !errors.Is(err, loop.ErrClosed) {
		r.t.Error(err)
	}
}

// TestPostWhileClosing posts from within the turn that closes, until that is refused: what was accepted still ran.
func TestPostWhileClosing(t *testing.T) {
	noLeaks(t)
	accepted, ran := 0, 0
	closeInOneTurn(t, func(l *loop.Loop) {
		var again func()
		again = func() {
			ran++
			if err := l.Post(again); err == nil {
				accepted++
			} else if !errors.Is(err, loop.ErrClosed) {
				t.Error(err)
			}
		}
		again()
	})
	if accepted < 2 || ran != 1+accepted { // one runs beside Close's own function, one posted by that, at least
		t.Errorf("%d accepted, %d ran", accepted, ran-1)
	}
}

func TestPostAfterClose(t *testing.T) {
	noLeaks(t)
	p, err := loop.NewPool(1)
	if err != nil {
		t.Fatal(err)
	}
	l := p.Loops()[0]
	p.Close()
	if err := l.Post(func() { t.Error("ran") }); !errors.Is(err, loop.ErrClosed) {
		t.Fatalf("Post gives %v", err)
	}
	p.Close() // twice is safe
}
