package main_test

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
)

// notifySocket plays the service manager's end of sd_notify(3): it notes who said what.
type notifySocket struct {
	path string
	conn *net.UnixConn

	mu   sync.Mutex
	said []string // guarded by mu; "PID: LINE"
}

func newNotifySocket(t *testing.T, dir string) *notifySocket {
	t.Helper()
	n := &notifySocket{path: filepath.Join(dir, "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	n.conn = conn
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// The sender's pid comes with each message, as systemd has it.
	var optionErr error
	err = raw.Control(func(fd uintptr) { optionErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	if err := cmp.Or(err, optionErr); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.read()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return n
}

func (n *notifySocket) read() {
	b, control := make([]byte, 4096), make([]byte, 256)
	for {
		size, controlSize, _, _, err := n.conn.ReadMsgUnix(b, control)
		if err != nil {
			return
		}
		pid := int32(-1)
		if messages, err := unix.ParseSocketControlMessage(control[:controlSize]); err == nil && len(messages) == 1 {
			if credentials, err := unix.ParseUnixCredentials(&messages[0]); err == nil {
				pid = credentials.Pid
			}
		}
		n.mu.Lock()
		for said := range strings.Lines(string(b[:size])) {
			n.said = append(n.said, fmt.Sprintf("%d: %s", pid, strings.TrimSpace(said)))
		}
		n.mu.Unlock()
	}
}

// from gives what a process has said, in order.
func (n *notifySocket) from(pid int) (lines []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, said := range n.said {
		if line, ok := strings.CutPrefix(said, strconv.Itoa(pid)+": "); ok {
			lines = append(lines, line)
		}
	}
	return lines
}

// await waits until a process has said a line with this beginning, times times.
func (n *notifySocket) await(t *testing.T, pid int, beginning string, times int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q from %d", beginning, pid), func() bool {
		return count(n.from(pid), beginning) >= times
	})
}

func count(lines []string, beginning string) (n int) {
	for _, line := range lines {
		if strings.HasPrefix(line, beginning) {
			n++
		}
	}
	return n
}

// Goal: the service manager hears the truth, from the process that serves, and from that alone. Method: a socket in its
// place that knows each sender's pid; over an upgrade and a drain.
func TestNotify(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	manager := newNotifySocket(t, dir)
	l := startLine(t, setup{dir: dir, wrap: []string{"env", "NOTIFY_SOCKET=" + manager.path, "WATCHDOG_USEC=100000"},
		args: append(endless, "-shutdown-timeout", "2s")})
	first := l.pid
	manager.await(t, first, "READY=1", 1)
	manager.await(t, first, "STATUS=serving: 0 streams", 1)
	manager.await(t, first, "WATCHDOG=1", 3)
	client := l.hold(fdrecv.KindSeqpacket, "")

	l.mustUpgrade()
	manager.await(t, l.pid, "READY=1", 1)
	manager.await(t, l.pid, "MAINPID="+strconv.Itoa(l.pid), 1)
	manager.await(t, l.pid, "WATCHDOG=1", 3) // WATCHDOG_PID named its predecessor
	l.awaitLog("the successor accepts")
	before := len(manager.from(first))
	manager.await(t, l.pid, "WATCHDOG=1", 10)
	if said := manager.from(first); len(said) > before+1 { // one may have been on its way
		t.Errorf("after the upgrade the old process said %q: a watchdog ping of its hides a successor that hangs", said[before:])
	}

	l.kill(syscall.SIGTERM)
	manager.await(t, l.pid, "STOPPING=1", 1)
	manager.await(t, l.pid, "EXTEND_TIMEOUT_USEC=", 1)
	_ = client.Close()
	l.awaitEnd()
	if said := manager.from(first); slices.Contains(said, "STOPPING=1") || count(said, "MAINPID") > 0 {
		t.Errorf("the old process said %q: systemd would take its end for that of the service", said)
	}
}

// activate starts a line with the listening sockets that sockets gives, by name, as a service manager passes them on.
func activate(t *testing.T, s setup, names []string, sockets []*os.File) *line {
	t.Helper()
	s.wrap = append(s.wrap, "env", "LISTEN_FDS="+strconv.Itoa(len(sockets)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	s.extraFiles = sockets
	return startLine(t, s)
}

// listening opens a listening Unix socket without close-on-exec being of any matter: the test's copy stays open.
func listening(t *testing.T, path string, socketType int) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, socketType|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 100); err != nil {
		t.Fatal(err)
	}
	return f
}

// Goal: sockets that a service manager has opened are served in place of those of the flags, before and after an
// upgrade, and stay its own: handoffs between two starts wait in the backlog, and the paths are there for good. Method:
// all four names; the line is drained and another one started with the same sockets.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	metricsFile, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer metricsFile.Close()
	sockets := []*os.File{
		listening(t, filepath.Join(dir, "seqpacket"), unix.SOCK_SEQPACKET),
		listening(t, filepath.Join(dir, "fdpass"), unix.SOCK_STREAM),
		metricsFile,
		listening(t, filepath.Join(dir, "stream"), unix.SOCK_STREAM),
	}
	names := []string{"seqpacket", "fdpass", "metrics", "stream"}
	unlinks := watchUnlinks(t, dir)
	// -socket names another path, whose directory does not exist: it must not be opened. fdpass is off in the flags.
	args := []string{"-demo-messages", "3", "-socket", filepath.Join(dir, "none", "stream"), "-fdpass-socket", ""}
	serves := func(l *line) {
		t.Helper()
		for _, kind := range kinds {
			if a := l.ask(kind, ""); !a.complete() || a.contents() != 3 {
				t.Errorf("%v: %+v", kind, a)
			}
		}
		if url := l.metricsURL(); url != "http://"+tcp.Addr().String()+"/metrics" {
			t.Errorf("the metrics are at %s, want %s", url, tcp.Addr())
		}
		if _, err := scrapeOne(l.metricsURL(), "daemon_handoffs_total"); err != nil {
			t.Error(err)
		}
	}
	l := activate(t, setup{dir: dir, args: args}, names, sockets)
	serves(l)
	l.mustUpgrade()
	serves(l)
	l.kill(syscall.SIGTERM)
	l.awaitEnd()

	waiting := readLater(l.handOver(fdrecv.KindSeqpacket, "")) // nobody is there; the service manager's socket is
	again := activate(t, setup{dir: dir, args: args}, names, sockets)
	if a := parse(t, <-waiting, false); !a.complete() {
		t.Errorf("the one that waited between the starts: %+v", a)
	}
	serves(again)
	for _, name := range unlinks.names(t) {
		if !strings.HasPrefix(name, "streaming-daemon") {
			t.Errorf("the name %s went from the directory", name)
		}
	}
}

// What a unit gets wrong is said at the start, in the words of the unit.
func TestSocketActivationRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, fdname string
		socketType   int
		args         []string
		want         string
	}{
		{"default name", "streaming-daemon.socket", unix.SOCK_STREAM, nil, "FileDescriptorName= in its unit must be one of stream, seqpacket, fdpass, metrics"},
		{"other type", "seqpacket", unix.SOCK_STREAM, nil, "not of the type of kind seqpacket"},
		{"not TCP", "metrics", unix.SOCK_STREAM, nil, "no TCP socket"},
		{"metrics off", "metrics", unix.SOCK_STREAM, []string{"-metrics-addr", ""}, "nothing uses"},
	} {
		dir := shortDir(t)
		f := listening(t, filepath.Join(dir, "passed"), tt.socketType)
		d := launch(t, setup{dir: dir, extraFiles: []*os.File{f}, args: tt.args,
			wrap: []string{"env", "LISTEN_FDS=1", "LISTEN_FDNAMES=" + tt.fdname, "sh", "-c", `export LISTEN_PID=$$; exec "$@"`, "sh"}})
		if code := d.wait(); code != 1 {
			t.Errorf("%s: exit code %d", tt.name, code)
		}
		d.log.close()
		if !strings.Contains(d.log.String(), tt.want) {
			t.Errorf("%s: the log is %s, want %q", tt.name, d.log, tt.want)
		}
		d.log = nil // level error is what it is about
		if left, err := filepath.Glob(filepath.Join(dir, "s*")); err != nil || len(left) > 0 {
			for _, path := range left {
				if !strings.HasSuffix(path, ".lock") {
					t.Errorf("%s: %s is left", tt.name, path)
				}
			}
		}
	}
}

// Alive is not the same as ready: while it drains, and when a listener is lost, the daemon is alive and not ready.
func TestReadyz(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	passed := listening(t, filepath.Join(dir, "passed"), unix.SOCK_STREAM)
	l := activate(t, setup{dir: dir, args: endless}, []string{"stream"}, []*os.File{passed})
	base := strings.TrimSuffix(l.metricsURL(), "/metrics")
	check := func(path string, status int, part string) {
		t.Helper()
		response, err := scraper.Get(base + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != status || !strings.Contains(string(body), part) {
			t.Errorf("%s: %s %q, %v, want %d and %q", path, response.Status, body, err, status, part)
		}
	}
	check("/healthz", http.StatusOK, `"ok"`)
	check("/readyz", http.StatusOK, `"ready"`)
	// Whoever holds the socket too may shut it down.
	if err := unix.Shutdown(int(passed.Fd()), unix.SHUT_RDWR); err != nil {
		t.Fatal(err)
	}
	l.failing = true // it says so
	l.awaitLog("shut down")
	check("/healthz", http.StatusOK, `"ok"`)
	check("/readyz", http.StatusServiceUnavailable, "the stream socket")
	client := l.hold(fdrecv.KindSeqpacket, "")
	l.kill(syscall.SIGTERM)
	l.awaitLog("draining")
	check("/healthz", http.StatusOK, `"ok"`)
	check("/readyz", http.StatusServiceUnavailable, "draining")
	_ = client.Close()
	l.awaitEnd()
}

// The unit in the README is the one that is installed.
func TestUnitInTheReadme(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	unit, err := os.ReadFile("../../deploy/systemd/streaming-daemon.service")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```ini\n"+string(unit)+"```\n") {
		t.Error("README.md has another streaming-daemon.service than deploy/systemd")
	}
}
