package loop_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

var errBoom = errors.New("boom")

// TestPanicCostsItsSourceOnly has two sources on one loop. One panics in each callback there is, by an error and by a
// value: it is retired and told, the log has the stack, its descriptor is closed; the other lives on.
func TestPanicCostsItsSourceOnly(t *testing.T) {
	boom := func(*probe) { panic(errBoom) }
	tests := []struct {
		name string
		p    *probe
		want bool
	}{
		{"Readable", &probe{onReadable: boom}, false},
		{"Writable", &probe{onReadable: func(p *probe) { readAll(p.FD()) }, onWritable: boom}, true},
		{"Hangup", &probe{onHangup: boom}, false},
		{"Readable after it retired", &probe{onReadable: func(p *probe) { p.Retire(); panic(errBoom) }}, false},
		{"Failed too", &probe{onReadable: boom, onFailed: func(*probe, error) { panic("once more") }}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			log := captureLog(t)
			l := newLoop(t)
			near, far := socketPair(t)
			number := near.Int()
			failed := make(chan error, 10)
			p, then := tt.p, tt.p.onFailed
			p.onFailed = func(p *probe, err error) {
				if p.Attached() {
					t.Error("told before it was retired")
				}
				failed <- err
				if then != nil {
					then(p, err)
				}
			}
			got := make(chan string, 1)
			otherNear, otherFar := socketPair(t)
			attach(t, l, &probe{onReadable: func(p *probe) {
				data, _ := readAll(p.FD())
				got <- data
			}}, otherNear)

			attach(t, l, p, near)
			switch {
			case tt.want:
				on(t, l, func() { _ = p.Want(true) })
			case tt.name == "Hangup":
				closeNow(t, far)
			default:
				write(t, far, "x")
			}
			if err := await(t, failed, "Failed"); !errors.Is(err, loop.ErrPanic) || !errors.Is(err, errBoom) {
				t.Errorf("failed with %v", err)
			}
			turns(t, l, 2)
			on(t, l, func() {
				if p.failures != 1 || l.Sources() != 1 {
					t.Errorf("%d times told, %d sources", p.failures, l.Sources())
				}
			})
			if _, err := unix.FcntlInt(uintptr(number), unix.F_GETFD, 0); err != unix.EBADF {
				t.Errorf("its descriptor is open: %v", err)
			}
			if text := log.String(); !strings.Contains(text, "boom") || !strings.Contains(text, "panic_test.go") {
				t.Errorf("logged without value or stack: %q", text)
			}
			write(t, otherFar, "alive")
			if data := await(t, got, "the other source"); data != "alive" {
				t.Errorf("the other source read %q", data)
			}
		})
	}
}

func TestPanicInAPostedFunction(t *testing.T) {
	log := captureLog(t)
	l := newLoop(t)
	ran := make(chan int, 3)
	on(t, l, func() { // so that all three run in one turn
		for i := range 3 {
			err := l.Post(func() {
				ran <- i
				if i == 1 {
					panic("posted boom")
				}
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 3 {
		if n := await(t, ran, "a posted function"); n != i {
			t.Fatalf("%d ran in place of %d", n, i)
		}
	}
	turns(t, l, 1)
	if text := log.String(); !strings.Contains(text, "posted boom") || !strings.Contains(text, "panic_test.go") {
		t.Errorf("logged without value or stack: %q", text)
	}
}

// firer is a Firer made of functions.
type firer struct {
	loop.Timer
	fire   func()
	failed func(error)
}

func newFirer(fire func()) *firer {
	f := &firer{fire: fire}
	f.Firer = f
	return f
}

func (f *firer) Fire() { f.fire() }

func (f *firer) Failed(err error) {
	if f.failed != nil {
		f.failed(err)
	}
}

// TestPanicInFire: the timer is told and stays disarmed, though it armed itself again first; its neighbours of the same
// tick fire.
func TestPanicInFire(t *testing.T) {
	log := captureLog(t)
	l := newLoop(t)
	failed, fired := make(chan error, 1), make(chan int, 2)
	var bad *firer
	bad = newFirer(func() {
		l.Arm(&bad.Timer, l.Now())
		panic(errBoom)
	})
	bad.failed = func(err error) {
		if bad.Armed() {
			t.Error("still armed when told")
		}
		failed <- err
		panic("and once more")
	}
	before, after := newFirer(func() { fired <- 1 }), newFirer(func() { fired <- 2 })
	on(t, l, func() {
		for _, f := range []*firer{before, bad, after} {
			l.Arm(&f.Timer, l.Now()+tick)
		}
	})
	if err := await(t, failed, "Failed"); !errors.Is(err, errBoom) || !errors.Is(err, loop.ErrPanic) {
		t.Errorf("failed with %v", err)
	}
	if sum := await(t, fired, "a neighbour") + await(t, fired, "a neighbour"); sum != 3 {
		t.Errorf("one neighbour fired twice")
	}
	turns(t, l, 2)
	if text := log.String(); !strings.Contains(text, "boom") || !strings.Contains(text, "once more") {
		t.Errorf("logged: %q", text)
	}
}
