package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
)

// Goal: an upgrade that fails changes nothing. Method: files of every sort in the place of the binary; each time the
// process that serves must say why, keep the stream that is open, take new handoffs over the same paths, and have
// neither a child nor a descriptor more than before. At the end a binary that works takes over.
func TestUpgradeToABrokenBinary(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: endless})
	l.failing = true
	unlinks := watchUnlinks(t, l.dir)
	open := l.hold(fdrecv.KindSeqpacket, "")
	_ = l.hold(fdrecv.KindStream, "").Close()
	l.awaitMetric("daemon_active_connections", 1)
	before := l.settledFDs()
	pids := filepath.Join(l.dir, "pids")
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		why           string // in the log
	}{
		{"no program", "not a program", 0o755, "exec format error"},
		{"not executable", "#!/bin/sh\n", 0o644, "permission denied"},
		{"ends at once", "#!/bin/sh\nexit 3\n", 0o755, "exit status 3"},
		{"crashes", "#!/bin/sh\nkill -SEGV $$\n", 0o755, "segmentation fault"},
		// The flag comes behind all others, so it wins; the line that the new version prints is in the log too.
		{"refuses its flags", "#!/bin/sh\nexec " + binary + ` "$@" -loops 1000` + "\n", 0o755, "exit status 2"},
		{"cannot listen", "#!/bin/sh\nexec " + binary + ` "$@" -pprof-addr 192.0.2.1:1` + "\n", 0o755, "cannot assign requested address"},
		{"never gets ready", "#!/bin/sh\necho $$ >>" + pids + "\nexec sleep 1000\n", 0o755, "in time"},
	} {
		l.write(t, []byte(tt.content), tt.mode)
		failures := l.failures()
		l.kill(syscall.SIGUSR2)
		eventually(t, tt.name+": the failure in the log", func() bool { return l.failures() > failures })
		if line := l.log.find("upgrade failed")["msg"].(string); !strings.Contains(line, tt.why) {
			t.Errorf("%s: the log says %q, want %q", tt.name, line, tt.why)
		}
		_ = l.hold(fdrecv.KindSeqpacket, "").Close()
		_ = l.hold(fdrecv.KindFDPass, "").Close()
		l.awaitMetric("daemon_active_connections", 1)
		if after := l.settledFDs(); after != before {
			t.Errorf("%s: %d descriptors before, %d after", tt.name, before, after)
		}
		if children := l.children(); children != "" {
			t.Errorf("%s: the children %s are left", tt.name, children)
		}
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range strings.Fields(string(b)) {
		if _, err := os.Stat("/proc/" + pid); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("process %s, which never got ready, is left: %v", pid, err)
		}
	}
	for _, name := range unlinks.names(t) {
		if !strings.HasPrefix(name, "streaming-daemon") { // the binary itself, renamed into its place
			t.Errorf("the name %s went from the directory", name)
		}
	}
	_ = open.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := open.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the stream that was open before: %v", err)
	}
	_ = open.Close()
	l.install(t, binary)
	l.mustUpgrade()
	_ = l.hold(fdrecv.KindSeqpacket, "").Close()
}

// failures counts the upgrades that failed.
func (l *line) failures() int { return strings.Count(l.log.String(), "upgrade failed") }

// children lists the pids of the children of the process that serves, zombies included.
func (l *line) children() string {
	l.t.Helper()
	var all []string
	tasks, err := filepath.Glob("/proc/" + strconv.Itoa(l.pid) + "/task/*/children")
	if err != nil || len(tasks) == 0 {
		l.t.Fatalf("no threads: %v", err)
	}
	for _, task := range tasks {
		if b, err := os.ReadFile(task); err == nil { // or the thread has ended
			all = append(all, strings.Fields(string(b))...)
		}
	}
	return strings.Join(all, " ")
}

// SIGTERM while a successor is on its way: that is given up, and the drain is one like any other. A second SIGUSR2
// starts no second one.
func TestDrainDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: []string{"-demo-messages", "20", "-demo-delay", "50ms"}})
	pids := filepath.Join(l.dir, "pids")
	l.write(t, []byte("#!/bin/sh\necho $$ >>"+pids+"\nexec sleep 1000\n"), 0o755)
	l.kill(syscall.SIGUSR2)
	eventually(t, "the successor to start", func() bool { _, err := os.Stat(pids); return err == nil })
	l.kill(syscall.SIGUSR2)
	l.awaitLog("under way already")
	client := readLater(l.handOver(fdrecv.KindSeqpacket, ""))
	l.awaitMetric("daemon_active_streams", 1)
	begun := time.Now()
	l.kill(syscall.SIGTERM)
	l.awaitLog("draining")
	if took := time.Since(begun); took > 8*time.Second {
		t.Errorf("the drain waited %v for the upgrade", took)
	}
	if a := parse(t, <-client, false); !a.complete() || a.contents() != 20 {
		t.Errorf("the stream: %+v", a)
	}
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b, err := os.ReadFile(pids)
	if err != nil || len(strings.Fields(string(b))) != 1 {
		t.Fatalf("successors %q, %v, want one", b, err)
	}
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(b))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the successor is left: %v", err)
	}
}

// Goal: streams go on in the old process for as long as they take, whatever -shutdown-timeout says, and a SIGTERM to
// the line's last process ends those of all: with a word, and spread. Method: an endless stream in each of three
// generations; what they hold is on the last one's page all the time.
func TestUpgradeKeepsStreamsUntilTheLineEnds(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: append(endless, "-shutdown-timeout", "1ms")})
	var clients [3]<-chan raw
	first := l.cmd.Process.Pid
	for i := range clients {
		if i > 0 {
			l.mustUpgrade()
		}
		clients[i] = readLater(l.hold(kinds[i], ""))
		l.awaitMetric("daemon_active_streams", float64(i+1))
		if n := l.metric("daemon_handoffs_total"); n != float64(i+1) {
			t.Errorf("generation %d: %v handoffs on its page", i, n)
		}
	}
	// Three more, each of which takes many times -shutdown-timeout.
	events := l.metric("daemon_events_sent_total")
	for range 3 {
		l.mustUpgrade()
		if now := l.metric("daemon_events_sent_total"); now != events {
			t.Errorf("%v events on the page, then %v", events, now)
		}
	}
	if err := syscall.Kill(first, 0); err != nil {
		t.Fatalf("the first process has ended under its stream: %v", err)
	}
	l.kill(syscall.SIGTERM)
	for i, c := range clients {
		r := <-c
		if a := parse(t, r, true); r.err != nil || a.last().name != "error" || a.last().retry < time.Second {
			t.Errorf("the stream of generation %d ended with %v after %q", i, r.err, r.bytes)
		}
	}
	l.awaitEnd()
	l.wait()
}

// SIGTERM to an old process sets the limit of any drain: its streams end, and those of its successor go on.
func TestTerminateTheOldProcess(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: append(endless, "-shutdown-timeout", "50ms")})
	old := readLater(l.hold(fdrecv.KindSeqpacket, ""))
	l.mustUpgrade()
	young := l.hold(fdrecv.KindSeqpacket, "")
	defer young.Close()
	l.awaitMetric("daemon_active_streams", 2)
	l.signal(syscall.SIGTERM)
	if a := parse(t, <-old, true); a.err != nil || a.last().name != "error" {
		t.Errorf("%+v", a)
	}
	if code := l.wait(); code != 1 {
		t.Errorf("exit code %d of the old process, which cut a stream", code)
	}
	l.awaitMetric("daemon_active_streams", 1)
	_ = young.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if n, err := young.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the successor's stream: %d bytes, %v", n, err)
	}
}

// A successor that is killed outright takes its own streams with it and no other's: those of the old process go on.
func TestSuccessorDies(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: []string{"-demo-messages", "40", "-demo-delay", "50ms"}})
	client := readLater(l.handOver(fdrecv.KindSeqpacket, ""))
	l.awaitMetric("daemon_active_streams", 1)
	l.mustUpgrade()
	l.kill(syscall.SIGKILL)
	l.awaitLog("the successor has ended")
	if a := parse(t, <-client, false); !a.complete() || a.contents() != 40 {
		t.Errorf("%+v", a)
	}
	if code := l.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	l.awaitEnd()
}

// An old process that is killed outright holds nothing any more, and what it has counted up to then stays on the page.
func TestPredecessorDies(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: endless})
	client := readLater(l.hold(fdrecv.KindSeqpacket, ""))
	l.mustUpgrade()
	l.awaitMetric("daemon_active_streams", 1)
	l.signal(syscall.SIGKILL)
	if code := l.wait(); code != -1 {
		t.Errorf("exit code %d", code)
	}
	if r := <-client; strings.Contains(string(r.bytes), "[DONE]") {
		t.Errorf("the stream of a process that was killed: %q", r.bytes)
	}
	l.awaitMetric("daemon_active_streams", 0)
	if n := l.metric("daemon_handoffs_total"); n != 1 {
		t.Errorf("%v handoffs", n)
	}
	l.awaitLog("the predecessor has ended")
}

// An upgrade is a way to another configuration: a path that is off afterwards is served to its last handoff and
// removed, a new one is opened.
func TestUpgradeToOtherSockets(t *testing.T) {
	t.Parallel()
	l := startLine(t, setup{args: []string{"-demo-messages", "3"}})
	moved := filepath.Join(l.dir, "moved")
	l.write(t, []byte("#!/bin/sh\nexec "+binary+` "$@" -seqpacket-socket `+moved+" -metrics-addr ''\n"), 0o755)
	l.mustUpgrade()
	eventually(t, "the old path to go", func() bool { _, err := os.Lstat(l.path(fdrecv.KindSeqpacket)); return err != nil })
	if a := l.ask(fdrecv.KindStream, ""); !a.complete() {
		t.Errorf("the path that stays: %+v", a)
	}
	if err := os.Rename(moved, l.path(fdrecv.KindSeqpacket)); err != nil {
		t.Fatal(err)
	}
	if a := l.ask(fdrecv.KindSeqpacket, ""); !a.complete() {
		t.Errorf("the new path: %+v", a)
	}
	if response, err := scraper.Get(l.metricsURL()); err == nil {
		_ = response.Body.Close()
		t.Error("somebody answers for the metrics, which are off")
	}
}
