package systemd_test

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/health"
	"streaming-daemon-go/cmd/streaming-daemon/systemd"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

const patience = 10 * time.Second

// manager is the service manager's end of the notify socket.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
}

func newManager(t *testing.T, watchdog time.Duration) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_PID", "")
	t.Setenv("WATCHDOG_USEC", "")
	if watchdog > 0 {
		t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	}
	return &manager{t, conn}
}

// hears gives the next message; "": none within the timeout.
func (m *manager) hears(timeout time.Duration) string {
	m.t.Helper()
	b := make([]byte, 4096)
	_ = m.conn.SetReadDeadline(time.Now().Add(timeout))
	n, _ := m.conn.Read(b)
	return string(b[:n])
}

func newNotifier(t *testing.T, cfg systemd.Config) *systemd.Notifier {
	t.Helper()
	cfg.Log = slog.New(slog.DiscardHandler)
	if cfg.Status == nil {
		cfg.Status = func() string { return "fine" }
	}
	if cfg.Hung == nil {
		cfg.Hung = func(time.Duration) []int { return nil }
	}
	n, err := systemd.NewNotifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Goal: a loop that hangs is found by the watchdog (the one thing that it is for), and no other is needed to say so.
// Method: real loops, one of them held for several times the ping's interval, then let go.
func TestWatchdogFollowsTheLoops(t *testing.T) {
	fdtest.NoLeaks(t)
	const watchdog = 100 * time.Millisecond
	m := newManager(t, watchdog)
	pool, err := loop.NewPool(2)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	n := newNotifier(t, systemd.Config{Hung: health.New(pool.Loops()).Hung})
	defer n.Close()
	for range 3 {
		if said := m.hears(patience); said != "WATCHDOG=1" {
			t.Fatalf("it said %q", said)
		}
	}
	held, release := make(chan struct{}), make(chan struct{})
	if err := pool.Loops()[1].Post(func() { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held
	_ = m.hears(watchdog) // one may have been on its way
	if said := m.hears(4 * watchdog); said != "" {
		t.Errorf("a loop hangs, and it said %q", said)
	}
	close(release)
	if said := m.hears(patience); said != "WATCHDOG=1" {
		t.Errorf("the loop goes on, and it said %q", said)
	}
}

// What is said, word for word (sd_notify(3)), and that Close does not lose the last of it.
func TestWords(t *testing.T) {
	fdtest.NoLeaks(t)
	m := newManager(t, 0)
	n := newNotifier(t, systemd.Config{})
	n.Ready(false)
	n.Ready(true)
	n.Stopping(150 * time.Second)
	n.Close()
	for _, want := range []string{
		"READY=1\nSTATUS=fine",
		"MAINPID=" + strconv.Itoa(os.Getpid()) + "\nREADY=1\nSTATUS=fine",
		"STOPPING=1\nEXTEND_TIMEOUT_USEC=150000000\nSTATUS=fine",
		"",
	} {
		if said := m.hears(100 * time.Millisecond); said != want {
			t.Errorf("it said %q, want %q", said, want)
		}
	}
}

// One that is mute says nothing more, least of all that it is alive.
func TestMute(t *testing.T) {
	fdtest.NoLeaks(t)
	m := newManager(t, 20*time.Millisecond)
	n := newNotifier(t, systemd.Config{})
	if said := m.hears(patience); said != "WATCHDOG=1" {
		t.Fatalf("it said %q", said)
	}
	n.Mute()
	_ = m.hears(10 * time.Millisecond) // one may have been on its way
	if said := m.hears(200 * time.Millisecond); said != "" {
		t.Errorf("it said %q", said)
	}
	n.Ready(false)
	n.Close()
	if said := m.hears(10 * time.Millisecond); said != "" {
		t.Errorf("it said %q", said)
	}
}

// A service manager that does not read holds nobody up: neither who notifies nor, for more than its time, the end.
func TestManagerThatDoesNotRead(t *testing.T) {
	m := newManager(t, 0)
	n := newNotifier(t, systemd.Config{Status: func() string { return strings.Repeat("x", 1000) }})
	begun := time.Now()
	for range 10_000 {
		n.Ready(false)
	}
	n.Close()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if said := m.hears(patience); !strings.HasPrefix(said, "READY=1") { // lets the blocked write go
		t.Errorf("it said %q", said)
	}
}

// Without a service manager nothing is asked either; a variable that makes no sense is an error.
func TestWithoutManager(t *testing.T) {
	fdtest.NoLeaks(t)
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "1000")
	t.Setenv("WATCHDOG_PID", "")
	var asked atomic.Int32
	n := newNotifier(t, systemd.Config{Hung: func(time.Duration) []int { asked.Add(1); return nil }})
	n.Ready(false)
	n.Stopping(time.Second)
	n.Close()
	if asked.Load() != 0 {
		t.Errorf("the loops were asked %d times", asked.Load())
	}
	t.Setenv("WATCHDOG_USEC", "soon")
	if _, err := systemd.NewNotifier(systemd.Config{Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "WATCHDOG_USEC") {
		t.Errorf("WATCHDOG_USEC=soon: %v", err)
	}
}
