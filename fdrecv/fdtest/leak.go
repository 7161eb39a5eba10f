package fdtest

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long NoLeaks and Eventually wait for what must come true: far beyond what a loaded machine needs
// under the race detector, so that only a real fault runs into it. A variable for the test of a leak alone.
var patience = 10 * time.Second

// OpenFDs lists the descriptors of this process, each as "number -> target", sorted. The one that reads the list is
// not in it.
func OpenFDs(t testing.TB) []string {
	t.Helper()
	warmUp()
	const dir = "/proc/self/fd"
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		t.Fatal(err)
	}
	own := fmt.Sprint(d.Fd())
	var fds []string
	for _, name := range names {
		if name == own {
			continue
		}
		target, err := os.Readlink(dir + "/" + name)
		if err != nil {
			continue // closed since the directory was read
		}
		fds = append(fds, name+" -> "+target)
	}
	slices.Sort(fds)
	return fds
}

// NoLeaks fails the test when, at its end, the process holds other descriptors or more goroutines than now. Call it
// before anything that registers a Cleanup: it looks after all of those have run. Not for parallel tests.
func NoLeaks(t testing.TB) {
	t.Helper()
	fds := OpenFDs(t)
	goroutines := runtime.NumGoroutine()
	t.Cleanup(func() {
		t.Helper()
		var now []string
		if !holds(func() bool { now = OpenFDs(t); return slices.Equal(fds, now) }) {
			t.Errorf("descriptors before:\n  %s\nafter:\n  %s", strings.Join(fds, "\n  "), strings.Join(now, "\n  "))
		}
		if !holds(func() bool { return runtime.NumGoroutine() <= goroutines }) {
			stacks := make([]byte, 64<<10)
			stacks = stacks[:runtime.Stack(stacks, true)]
			t.Errorf("goroutines before: %d, after: %d\n%s", goroutines, runtime.NumGoroutine(), stacks)
		}
	})
}

// Eventually waits until condition holds, and ends the test when it does not within ten seconds. what completes the
// sentence "waited in vain for".
func Eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !holds(condition) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// holds polls condition: at once, then each millisecond, until it is true or patience has run out.
func holds(condition func() bool) bool {
	if condition() {
		return true
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if condition() {
			return true
		}
	}
	return condition()
}

// warmUp makes the Go runtime open its own epoll and eventfd descriptors, which it keeps: they are no leak.
var warmUp = sync.OnceFunc(func() {
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
})
