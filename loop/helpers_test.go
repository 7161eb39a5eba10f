package loop_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if r, w, err := os.Pipe(); err == nil { // the runtime opens an epoll of its own at the first such file, and keeps it
		_, _ = r.Close(), w.Close()
	}
	os.Exit(m.Run())
}

// openFDs lists this process's descriptors as "number -> target".
func openFDs(t testing.TB) []string {
	t.Helper()
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var fds []string
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil || strings.HasPrefix(target, "/proc/") {
			continue // the descriptor of the listing itself, closed by now
		}
		fds = append(fds, e.Name()+" -> "+target)
	}
	slices.Sort(fds)
	return fds
}

// noLeaks fails the test when, after every later cleanup, it has left a descriptor or a goroutine. Goroutines are
// waited for: they may be on their way out.
func noLeaks(t testing.TB) {
	t.Helper()
	before, goroutines := openFDs(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		if after := openFDs(t); !slices.Equal(before, after) {
			after = slices.DeleteFunc(after, func(fd string) bool { return slices.Contains(before, fd) })
			t.Errorf("%d descriptors left: %q", len(after), after[:min(len(after), 20)])
		}
		deadline := time.Now().Add(patience)
		for runtime.NumGoroutine() > goroutines {
			if time.Now().After(deadline) {
				stacks := make([]byte, 1<<16)
				t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), goroutines,
					stacks[:runtime.Stack(stacks, true)])
				return
			}
			runtime.Gosched()
		}
	})
}

// newPool starts n loops that end with the test, which must leave nothing behind.
func newPool(t testing.TB, n int) *loop.Pool {
	t.Helper()
	noLeaks(t)
	p, err := loop.NewPool(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func newLoop(t testing.TB) *loop.Loop { t.Helper(); return newPool(t, 1).Loops()[0] }

// on runs f on the loop, in one turn, and waits for it.
func on(t testing.TB, l *loop.Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if err := l.Post(func() { defer close(done); f() }); err != nil {
		t.Fatal(err)
	}
	await(t, done, "the posted function")
}

// turns lets the loop finish n more turns, in each of which it has looked at the readiness there was.
func turns(t testing.TB, l *loop.Loop, n int) {
	t.Helper()
	for range n {
		on(t, l, func() {})
	}
}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// waitUntil asks again and again.
func waitUntil(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// socketPair gives two connected stream sockets, non-blocking; far is closed with the test.
func socketPair(t testing.TB) (near loop.FD, far int) {
	t.Helper()
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return loop.OwnFD(p[0]), closeWithTest(t, p[1])
}

// tcpPair is socketPair over loopback TCP.
func tcpPair(t testing.TB) (near loop.FD, far int) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(listener)
	must(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(listener, 1))
	address, err := unix.Getsockname(listener)
	must(err)
	far, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	must(unix.Connect(far, address))
	n, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(err)
	must(unix.SetNonblock(far, true))
	return loop.OwnFD(n), closeWithTest(t, far)
}

// pairs are the two ways to make a client socket.
var pairs = map[string]func(testing.TB) (loop.FD, int){"unix": socketPair, "tcp": tcpPair}

// closedEarly remembers what a test closed itself, so that closeWithTest does not close somebody else's number.
var closedEarly sync.Map

func closeWithTest(t testing.TB, fd int) int {
	closedEarly.Delete(fd)
	t.Cleanup(func() {
		if _, early := closedEarly.LoadAndDelete(fd); !early {
			_ = unix.Close(fd)
		}
	})
	return fd
}

// closeNow closes what closeWithTest would have closed.
func closeNow(t testing.TB, fd int) {
	t.Helper()
	closedEarly.Store(fd, true)
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, fd int, s string) {
	t.Helper()
	if n, err := loop.Send(fd, []byte(s)); n != len(s) || err != nil {
		t.Fatalf("sent %d of %d: %v", n, len(s), err)
	}
}

// readAll reads until nothing is left, and says whether that was for good.
func readAll(fd int) (data string, hungUp bool) {
	b := make([]byte, 4096)
	for {
		n, err := loop.Recv(fd, b)
		data += string(b[:n])
		if err == unix.EAGAIN {
			return data, false
		}
		if n == 0 || err != nil {
			return data, true
		}
	}
}

// fill sends until the kernel takes no more, and says how much it took.
func fill(t testing.TB, fd int) (sent int) {
	t.Helper()
	block := make([]byte, 64<<10)
	for {
		n, err := loop.Send(fd, block)
		if err == unix.EAGAIN {
			return sent
		}
		if err != nil {
			t.Error(err) // not Fatal: this runs on the loop
			return sent
		}
		sent += n
	}
}

// probe is a source whose callbacks are the test's; a missing one counts only. The counters belong to the loop.
type probe struct {
	loop.Source
	onReadable, onWritable, onHangup func(p *probe)
	onFailed                         func(p *probe, err error)

	readable, writable, hangups, failures int
}

func (p *probe) Readable() {
	p.readable++
	if p.onReadable != nil {
		p.onReadable(p)
	}
}

func (p *probe) Writable() {
	p.writable++
	if p.onWritable != nil {
		p.onWritable(p)
	}
}

func (p *probe) Hangup() {
	p.hangups++
	if p.onHangup != nil {
		p.onHangup(p)
	}
}

func (p *probe) Failed(err error) {
	p.failures++
	if p.onFailed != nil {
		p.onFailed(p, err)
	}
}

// attach attaches p on its loop.
func attach(t testing.TB, l *loop.Loop, p *probe, fd loop.FD) {
	t.Helper()
	on(t, l, func() {
		if err := p.Attach(l, fd, p); err != nil {
			t.Error(err)
		}
	})
}

// logged collects what is logged until the test ends.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func captureLog(t testing.TB) *logged {
	out, before := &logged{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(out, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return out
}

// fdInfo is one field of /proc/self/fdinfo, proc(5).
func fdInfo(t testing.TB, fd int, field string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(rest)
		}
	}
	t.Fatalf("no %s in %q", field, text)
	return ""
}
