package main_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// line is a daemon of which each process may put another in its place. They all write to one log.
type line struct {
	*daemon
	file string // the binary on disk, this line's own
	pid  int    // of the process that serves now

	failing bool // a successor that cannot start says so, at level error
}

// startLine is start for a line, with a binary of its own that can be replaced.
func startLine(t *testing.T, s setup) *line {
	t.Helper()
	if s.dir == "" {
		s.dir = shortDir(t)
	}
	l := &line{file: filepath.Join(s.dir, "streaming-daemon")}
	l.install(t, binary)
	// A shell takes the place of a service manager: it knows the pid before the daemon runs, and is that process.
	s.wrap = append(s.wrap, "sh", "-c", `file=$1; shift 2; export LISTEN_PID=$$ WATCHDOG_PID=$$; exec "$file" "$@"`, "sh", l.file)
	l.daemon = launch(t, s)
	l.pid = l.cmd.Process.Pid
	t.Cleanup(l.end)
	l.awaitLog("ready")
	return l
}

// install puts a file in the place of the binary on disk in one step, as a package manager does.
func (l *line) install(t *testing.T, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	l.write(t, b, 0o755)
}

func (l *line) write(t *testing.T, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(l.file+".new", content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(l.file+".new", l.file); err != nil {
		t.Fatal(err)
	}
}

// upgrade puts a new process in the place of the one that serves, and returns once that says so. Both accept for a moment
// after that: who does not care sends on.
func (l *line) upgrade() error {
	before := l.pid
	if err := syscall.Kill(before, syscall.SIGUSR2); err != nil {
		return fmt.Errorf("SIGUSR2 to %d: %w", before, err)
	}
	took := holds(patience, func() bool {
		found := l.log.find("took over")
		if found == nil {
			return false
		}
		pid, _ := found["pid"].(float64)
		l.pid = int(pid)
		return l.pid != before
	})
	if !took {
		return fmt.Errorf("process %d has no successor", before)
	}
	return nil
}

// mustUpgrade is upgrade to its end: what is sent or asked from here on is the new process's.
func (l *line) mustUpgrade() {
	l.t.Helper()
	before := l.pid
	if err := l.upgrade(); err != nil {
		l.t.Fatalf("%v; log:\n%s", err, l.log)
	}
	eventually(l.t, "the predecessor to let go of its listeners", func() bool { return heldListeners(l.t, before) == 0 })
	if heldListeners(l.t, l.pid) == 0 {
		l.t.Fatalf("process %d has no listener either", l.pid)
	}
}

// heldListeners counts the listening sockets that a process holds. None is held by one that has ended.
func heldListeners(t testing.TB, pid int) (held int) {
	t.Helper()
	listening := map[string]bool{} // the links to them, /proc/<pid>/fd/<n>
	for _, table := range []struct {
		path          string
		state, inode  int // fields
		stateOfListen string
	}{
		{"/proc/net/unix", 3, 6, "00010000"}, // __SO_ACCEPTCON (af_unix.c, unix_seq_show)
		{"/proc/net/tcp", 3, 9, "0A"},        // TCP_LISTEN (proc(5))
		{"/proc/net/tcp6", 3, 9, "0A"},
	} {
		b, err := os.ReadFile(table.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for socket := range strings.Lines(string(b)) {
			if f := strings.Fields(socket); len(f) > table.inode && f[table.state] == table.stateOfListen {
				listening["socket:["+f[table.inode]+"]"] = true
			}
		}
	}
	fds, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/fd/*")
	for _, fd := range fds {
		if link, err := os.Readlink(fd); err == nil && listening[link] {
			held++
		}
	}
	return held
}

func (l *line) kill(sig syscall.Signal) {
	l.t.Helper()
	if err := syscall.Kill(l.pid, sig); err != nil {
		l.t.Fatalf("%v to %d: %v", sig, l.pid, err)
	}
}

// awaitEnd waits until every process of the line has ended: then nobody holds the log any more.
func (l *line) awaitEnd() {
	l.t.Helper()
	select {
	case <-l.log.done:
	case <-time.After(patience):
		l.t.Fatalf("the line does not end; its log:\n%s", l.log)
	}
}

// end drains the line, unless it has ended.
func (l *line) end() {
	if l.failing {
		defer func() { l.daemon.log = nil }() // what the daemon's own cleanup looks for is expected
	}
	select {
	case <-l.log.done:
		return
	default:
	}
	_ = syscall.Kill(l.pid, syscall.SIGTERM)
	select {
	case <-l.log.done:
	case <-time.After(patience):
		l.t.Errorf("the line does not end at the end of the test; its log:\n%s", l.log)
		_ = syscall.Kill(l.pid, syscall.SIGKILL)
	}
}

// unlinkWatch notes every name that goes from a directory.
type unlinkWatch struct{ fd int }

func watchUnlinks(t *testing.T, dir string) *unlinkWatch {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_DELETE|unix.IN_MOVED_FROM); err != nil {
		t.Fatal(err)
	}
	return &unlinkWatch{fd}
}

// names gives those that went since the last call.
func (w *unlinkWatch) names(t *testing.T) (gone []string) {
	t.Helper()
	buffer := make([]byte, 64<<10)
	for {
		n, err := unix.Read(w.fd, buffer)
		if err == unix.EAGAIN {
			return gone
		}
		if err != nil {
			t.Fatal(err)
		}
		for rest := buffer[:n]; len(rest) >= unix.SizeofInotifyEvent; {
			e := (*unix.InotifyEvent)(unsafe.Pointer(&rest[0]))
			name := rest[unix.SizeofInotifyEvent : unix.SizeofInotifyEvent+int(e.Len)]
			gone = append(gone, strings.TrimRight(string(name), "\x00"))
			rest = rest[unix.SizeofInotifyEvent+int(e.Len):]
		}
	}
}

// Goal: an upgrade costs no client anything (P-01, P-22). Method: 500 handoffs a second by senders that try once, over
// all three kinds in turn, while ten processes in a row take each other's place; every handoff is taken, every client
// gets its whole stream, no socket path goes for an instant, a scraper that asks all the time always gets an answer whose
// counters do not fall, and the last process counts every handoff of the line. It holds as many descriptors as the first
// successor did.
func TestUpgradeLosesNothing(t *testing.T) {
	t.Parallel()
	const upgrades, perUpgrade = 10, 100
	interval := 2 * time.Millisecond
	if raceEnabled {
		interval *= 5 // the detector makes all of it that much slower
	}
	l := startLine(t, setup{args: []string{"-demo-messages", "8", "-demo-delay", "25ms", "-max-connections", "5000"}})
	inodes := l.inodes()
	unlinks := watchUnlinks(t, l.dir)
	l.mustUpgrade()                         // the first process has what this test's parents left open; its successor must not
	l.awaitLog("the predecessor has ended") // until then there is a descriptor for it
	before := l.settledFDs()
	stop := make(chan struct{})
	scrapes := l.scrapes(stop)
	upgraded := make(chan error, 1)
	var sent atomic.Int64
	go func() {
		for n := range upgrades {
			// Back to back they would take a second: each has some load of its own.
			for from := sent.Load(); sent.Load() < from+perUpgrade; {
				runtime.Gosched()
			}
			if err := l.upgrade(); err != nil {
				upgraded <- fmt.Errorf("upgrade %d: %w", n+1, err)
				return
			}
		}
		upgraded <- nil
	}()

	var clients sync.WaitGroup
	answers := make(chan raw, 100)
	whole, broken := 0, 0
	var collected sync.WaitGroup
	collected.Go(func() {
		for r := range answers {
			if r.err == nil && strings.Count(string(r.bytes), "data: {") == 8 && strings.HasSuffix(string(r.bytes), "data: [DONE]\n\n") {
				whole++
			} else if broken++; broken <= 3 {
				t.Errorf("a stream that is not whole: %v after %q", r.err, r.bytes)
			}
		}
	})
	begun, failed := time.Now(), 0
	pace := time.NewTimer(0)
	defer pace.Stop()
	for n, tail := 1, -1; tail != 0; n, tail = n+1, tail-1 { // half a second more than the upgrades take
		pace.Reset(time.Until(begun.Add(time.Duration(n) * interval)))
		select {
		case err := <-upgraded:
			if err != nil {
				t.Errorf("%v; log:\n%s", err, l.log)
			}
			tail = int(500 * time.Millisecond / interval)
		case <-pace.C:
		}
		kind := kinds[int(sent.Load())%len(kinds)]
		server, client := fdtest.TCPPair(t)
		err := fdrecv.Send(l.path(kind), kind, server.Int(), nil, sendTimeout)
		_ = server.Close()
		if err != nil {
			if failed++; failed <= 3 {
				t.Errorf("handoff %d over %v: %v", sent.Load(), kind, err)
			}
			continue
		}
		sent.Add(1)
		clients.Go(func() { answers <- readAll(client) })
	}
	clients.Wait()
	close(answers)
	collected.Wait()
	close(stop)
	for err := range scrapes {
		t.Errorf("a scrape: %v", err)
	}
	handed := int(sent.Load())
	t.Logf("%d handoffs, %.0f a second, %d failed, %d whole streams", handed, float64(handed)/time.Since(begun).Seconds(), failed, whole)
	if failed > 0 || broken > 0 || whole != handed {
		t.Errorf("%d handoffs failed; of %d that did not, %d streams are whole, %d are not", failed, handed, whole, broken)
	}
	if gone := unlinks.names(t); len(gone) != 0 {
		t.Errorf("these names went from the directory: %q", gone)
	}
	if now := l.inodes(); now != inodes {
		t.Errorf("the sockets are others: %v, were %v", now, inodes)
	}
	l.awaitMetric("daemon_active_connections", 0)
	eventually(t, "every predecessor to end", func() bool {
		return strings.Count(l.log.String(), "the predecessor has ended") == upgrades+1
	})
	if total := l.metric("daemon_handoffs_total"); total != float64(handed) {
		t.Errorf("the last process counts %v handoffs, want those of all: %d", total, handed)
	}
	if n := l.metric("daemon_stream_duration_seconds_count"); n != float64(handed) {
		t.Errorf("the last process counts %v streams, want those of all: %d", n, handed)
	}
	if after := l.settledFDs(); after != before {
		links, _ := exec.Command("ls", "-l", "/proc/"+strconv.Itoa(l.pid)+"/fd").Output()
		t.Errorf("%d descriptors in the last process, %d in the first successor:\n%s", after, before, links)
	}
	l.kill(syscall.SIGTERM)
	l.awaitEnd()
	for _, kind := range kinds {
		if _, err := os.Lstat(l.path(kind)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the path of %v stays after the end of the line: %v", kind, err)
		}
	}
}

// inodes identifies the socket files.
func (l *line) inodes() (all [3]uint64) {
	l.t.Helper()
	for i, kind := range kinds {
		var st unix.Stat_t
		if err := unix.Lstat(l.path(kind), &st); err != nil {
			l.t.Fatal(err)
		}
		all[i] = st.Ino
	}
	return all
}

// settledFDs counts the descriptors of the process that serves, once its clients and scrapers are gone.
func (l *line) settledFDs() int {
	l.t.Helper()
	last, same := -1, 0
	eventually(l.t, "the number of descriptors to settle", func() bool {
		now := countFDs(strconv.Itoa(l.pid))
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
		return same >= 20
	})
	return last
}

// scrapes asks for the metrics again and again until stop is closed. The channel gives what was wrong, and is closed.
func (l *line) scrapes(stop <-chan struct{}) <-chan error {
	faults := make(chan error, 1000)
	url := l.metricsURL()
	go func() {
		defer close(faults)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		var last float64
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			now, err := scrapeOne(url, "daemon_handoffs_total")
			if err == nil && now < last {
				err = fmt.Errorf("daemon_handoffs_total fell from %v to %v", last, now)
			}
			if err != nil {
				faults <- err
				return
			}
			last = now
		}
	}()
	return faults
}

func scrapeOne(url, name string) (float64, error) {
	response, err := scraper.Get(url)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s, %w", response.Status, err)
	}
	for sample := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(sample, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no %s on the page", name)
}

// The front and the pprof listener are handed over like the metrics: a page that is asked for all the time is always
// served, at the same address, and its streams come from whoever serves then.
func TestUpgradeHandsOverEveryListener(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: []string{"-front", "127.0.0.1:0", "-pprof-addr", "127.0.0.1:0", "-demo-messages", "3"}})
	page := l.awaitLog("front: open this page")["url"].(string)
	pprof := l.log.findAttribute("pprof")
	stop, faults := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(faults)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for _, url := range []string{page, page + "stream?prompt=x"} {
				response, err := scraper.Get(url)
				var body []byte
				if err == nil {
					body, err = io.ReadAll(response.Body)
					_ = response.Body.Close()
				}
				if err != nil || response.StatusCode != http.StatusOK || url != page && !strings.HasSuffix(string(body), "data: [DONE]\n\n") {
					faults <- fmt.Errorf("%s: %w, %q", url, err, body)
					return
				}
			}
		}
	}()
	for range 3 {
		l.mustUpgrade()
		if goroutines := l.get(pprof + "goroutine?debug=1"); !strings.Contains(goroutines, "goroutine profile") {
			t.Errorf("pprof: %q", goroutines)
		}
	}
	close(stop)
	for err := range faults {
		t.Error(err)
	}
	if now := l.awaitLog("front: open this page")["url"]; now != page {
		t.Errorf("the page is at %v, was at %s", now, page)
	}
}
