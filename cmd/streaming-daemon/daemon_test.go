package main_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
)

// patience is how long a test waits for what must come true: far beyond what a loaded machine needs under the race
// detector, so that only a fault runs into it.
const patience = 20 * time.Second

// kinds are all protocols of handoffs.
var kinds = []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass}

// endless makes streams that send one event and then nothing: they end only when somebody ends them.
var endless = []string{"-demo-messages", "1000000", "-demo-delay", "1h"}

// daemon is a running daemon.
type daemon struct {
	t       testing.TB
	cmd     *exec.Cmd
	dir     string
	log     *logLines     // nil when the test has stderr to itself
	exited  chan struct{} // closed once the process has ended and been waited for
	awaited bool          // the test has looked at the exit code itself
}

// setup is how to start a daemon. The zero setup is three sockets in a directory of its own, metrics on a free port,
// two loops, JSON logs.
type setup struct {
	dir    string   // where the sockets are; "": a new one
	args   []string // behind those of the zero setup, so that they win
	env    []string // beside the test's own environment
	wrap   []string // a command in front of the daemon's
	stderr *os.File // in place of the log that is read; the caller closes it

	extraFiles []*os.File // descriptors 3 and up; the caller closes its own
}

// start runs a daemon with further flags until the end of the test and waits until it is ready.
func start(t testing.TB, args ...string) *daemon {
	t.Helper()
	d := launch(t, setup{args: args})
	d.awaitLog("ready")
	return d
}

// launch starts a daemon. At the end of the test it is drained, and it must have ended well.
func launch(t testing.TB, s setup) *daemon {
	t.Helper()
	if s.dir == "" {
		s.dir = shortDir(t)
	}
	d := &daemon{t: t, dir: s.dir, exited: make(chan struct{})}
	argv := slices.Concat(s.wrap, []string{binary}, defaultArgs(s.dir), s.args)
	d.cmd = exec.Command(argv[0], argv[1:]...)
	d.cmd.Env = append(os.Environ(), s.env...)
	d.cmd.Stderr, d.cmd.ExtraFiles = s.stderr, s.extraFiles
	if s.stderr == nil {
		d.cmd.Stderr = nil
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer write.Close() // the daemon has its own
		d.cmd.Stderr = write
		d.log = newLogLines(read)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // its error is the exit code, which wait looks at
	}()
	t.Cleanup(d.cleanup)
	return d
}

func defaultArgs(dir string) []string {
	return []string{
		"-socket", filepath.Join(dir, "stream"), "-seqpacket-socket", filepath.Join(dir, "seqpacket"),
		"-fdpass-socket", filepath.Join(dir, "fdpass"), "-metrics-addr", "127.0.0.1:0", "-loops", "2", "-max-connections", "2000",
		"-demo-delay", "1ms", "-log-format", "json",
	}
}

// shortDir is t.TempDir with a path that leaves room for a socket's name, whatever the test is called.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// path is the daemon's socket for a kind.
func (d *daemon) path(kind fdrecv.Kind) string { return filepath.Join(d.dir, kind.String()) }

func (d *daemon) pid() string { return strconv.Itoa(d.cmd.Process.Pid) }

func (d *daemon) signal(sig syscall.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatalf("%v: %v", sig, err)
	}
}

// wait waits for the end and gives the exit code; -1: killed by a signal.
func (d *daemon) wait() int {
	d.t.Helper()
	d.awaited = true
	select {
	case <-d.exited:
	case <-time.After(patience):
		d.t.Fatalf("the daemon does not end; its log:\n%s", d.log)
	}
	return d.cmd.ProcessState.ExitCode()
}

// cleanup drains the daemon, if that has not happened, and looks for what no daemon may say.
func (d *daemon) cleanup() {
	d.t.Helper()
	if !d.awaited {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-d.exited:
			if code := d.cmd.ProcessState.ExitCode(); code != 0 {
				d.t.Errorf("exit code %d at the end of the test; its log:\n%s", code, d.log)
			}
		case <-time.After(patience):
			d.t.Errorf("the daemon does not end at the end of the test; its log:\n%s", d.log)
		}
	}
	_ = d.cmd.Process.Kill() // when it has ended: no effect
	<-d.exited
	if d.log == nil {
		return
	}
	d.log.close()
	for _, line := range d.log.all() {
		if strings.Contains(line, "DATA RACE") || strings.Contains(line, "panic") || strings.Contains(line, "goroutine ") ||
			strings.Contains(line, `"level":"ERROR"`) {
			d.t.Errorf("in its log:\n%s", d.log)
			return
		}
	}
}

// awaitLog waits for a line whose message contains the text, and gives its attributes.
func (d *daemon) awaitLog(text string) map[string]any {
	d.t.Helper()
	var found map[string]any
	ok := holds(patience, func() bool {
		found = d.log.find(text)
		return found != nil
	})
	if !ok {
		d.t.Fatalf("no line %q in the log:\n%s", text, d.log)
	}
	return found
}

// eventually waits until condition holds. what completes the sentence "waited in vain for".
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	if !holds(patience, condition) {
		t.Fatalf("waited in vain for %s", what)
	}
}

// holds polls condition until it is true or the time is over.
func holds(timeout time.Duration, condition func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(timeout); time.Now().Before(end); <-tick.C {
		if condition() {
			return true
		}
	}
	return condition()
}

// logLines collects the lines of a log as they are written.
type logLines struct {
	from *os.File
	done chan struct{} // closed when no more lines can come

	mu    sync.Mutex
	lines []string // guarded by mu
}

// newLogLines reads from until its end. It takes from.
func newLogLines(from *os.File) *logLines {
	l := &logLines{from: from, done: make(chan struct{})}
	go func() {
		defer close(l.done)
		defer from.Close()
		scanner := bufio.NewScanner(from)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			if isDependencyNoise(scanner.Text()) {
				continue
			}
			l.mu.Lock()
			l.lines = append(l.lines, scanner.Text())
			l.mu.Unlock()
		}
	}()
	return l
}

// isDependencyNoise: the metrics library prints this line while it is initialised, where the machine's control groups
// know no pressure files, before a line of ours has run.
func isDependencyNoise(line string) bool {
	return strings.Contains(line, "INFO: metrics: disable exposing PSI metrics")
}

// close waits for the last line of a process that has ended.
func (l *logLines) close() { <-l.done }

// hangUp closes the reading end, as a log collector that dies does.
func (l *logLines) hangUp() {
	_ = l.from.Close()
	<-l.done
}

func (l *logLines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

// String is the whole log; "" of a nil one.
func (l *logLines) String() string {
	if l == nil {
		return ""
	}
	return strings.Join(l.all(), "\n")
}

// find gives the attributes of the last line whose message contains the text; nil: there is none.
func (l *logLines) find(text string) map[string]any {
	for _, line := range slices.Backward(l.all()) {
		var attributes map[string]any
		if json.Unmarshal([]byte(line), &attributes) != nil {
			continue
		}
		if message, _ := attributes["msg"].(string); strings.Contains(message, text) {
			return attributes
		}
	}
	return nil
}

// findAttribute gives a string attribute of any line that has it; "": none has.
func (l *logLines) findAttribute(name string) string {
	for _, line := range l.all() {
		var attributes map[string]any
		if json.Unmarshal([]byte(line), &attributes) != nil {
			continue
		}
		if value, ok := attributes[name].(string); ok {
			return value
		}
	}
	return ""
}

// number is a numeric attribute.
func number(t testing.TB, attributes map[string]any, name string) int {
	t.Helper()
	n, ok := attributes[name].(float64)
	if !ok {
		t.Fatalf("no number %q in %v", name, attributes)
	}
	return int(n)
}
