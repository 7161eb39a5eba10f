package main_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// dialStream connects to the stream socket and says nothing.
func dialStream(t testing.TB, d *daemon) interface{ Close() error } {
	t.Helper()
	fd := fdtest.Dial(t, d.path(fdrecv.KindStream), unix.SOCK_STREAM)
	return &fd
}

// accessLine is a line of the access log in JSON.
type accessLine struct {
	Time      time.Time
	Client    string
	UserID    string `json:"user_id"`
	RequestID string `json:"request_id"`
	Backend   string
	Listener  string
	Status    int
	Bytes     int
	Events    int
	FirstByte *float64 `json:"first_byte_seconds"`
	Duration  float64  `json:"duration_seconds"`
	End       string
	Error     string
}

// accessLines waits for n lines and gives them by request id.
func accessLines(t testing.TB, path string, n int) map[string]accessLine {
	t.Helper()
	var content []byte
	eventually(t, "the lines of the access log", func() bool {
		content, _ = os.ReadFile(path)
		return bytes.Count(content, []byte("\n")) >= n
	})
	all := map[string]accessLine{}
	for line := range bytes.Lines(content) {
		var l accessLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[l.RequestID] = l
	}
	if len(all) != n || bytes.Count(content, []byte("\n")) != n {
		t.Fatalf("want %d lines:\n%s", n, content)
	}
	return all
}

// Goal: every client that was handed over is one line that agrees with what the client saw: streams however they ended,
// and clients that got none. Method: one client of each kind of end, told apart by its request id.
func TestAccessLog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "access.log")
	d := start(t, append(endless, "-demo-messages", "3", "-demo-delay", "1ms", "-max-connections", "2", "-access-log", path)...)
	a := d.ask(fdrecv.KindStream, `{"user_id":7,"request_id":"whole"}`)
	b := d.ask(fdrecv.KindFDPass, "")
	c := d.ask(fdrecv.KindSeqpacket, `{"request_id":"malformed","prompt":1}`)
	lines := accessLines(t, path, 3)
	whole, fdpass, malformed := lines["whole"], lines[""], lines["malformed"]
	if whole.UserID != "7" || whole.Client != "127.0.0.1" || whole.Backend != "demo" || whole.Listener != "stream" || whole.Status != 200 ||
		whole.Bytes != a.bytes || whole.Events != 3 || whole.FirstByte == nil || *whole.FirstByte > whole.Duration || whole.Duration > 60 ||
		whole.End != "complete" || whole.Error != "" || time.Since(whole.Time) > time.Minute {
		t.Errorf("%+v after %d bytes", whole, a.bytes)
	}
	if fdpass.Listener != "fdpass" || fdpass.Status != 200 || fdpass.Bytes != b.bytes || fdpass.End != "complete" {
		t.Errorf("%+v", fdpass)
	}
	if malformed.Status != 400 || malformed.Bytes != c.bytes || malformed.End != "rejected" || !strings.Contains(malformed.Error, "prompt: not a string") {
		t.Errorf("%+v", malformed)
	}
}

// Goal: ends that are nobody's plan have their word too; SIGUSR1 opens a new file; SIGHUP turns the log off and on and
// changes its format. Method: as an operator would, with a rename.
func TestAccessLogOverTime(t *testing.T) {
	t.Parallel()
	file := strings.Replace(basics, "demo-delay: 1ms", "demo-delay: 1h\ndemo-messages: 5", 1) +
		"max-connections: 2\nshutdown-timeout: 10ms\naccess-log: DIR/access.log\n"
	d := launchFile(t, file)
	path := filepath.Join(d.dir, "access.log")
	gone := d.hold(fdrecv.KindSeqpacket, `{"request_id":"gone"}`)
	held := d.hold(fdrecv.KindSeqpacket, `{"request_id":"held"}`)
	d.ask(fdrecv.KindSeqpacket, `{"request_id":"full"}`).refused(t, http.StatusServiceUnavailable)
	_ = gone.Close()
	lines := accessLines(t, path, 2)
	if l := lines["full"]; l.End != "rejected" || l.Status != 503 || !strings.Contains(l.Error, "too many streams") {
		t.Errorf("%+v", l)
	}
	if l := lines["gone"]; l.End != "client_gone" || l.Status != 200 || l.Events != 1 {
		t.Errorf("%+v", l)
	}

	// Rotation.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	d.signal(syscall.SIGUSR1)
	eventually(t, "the new file", func() bool { _, err := os.Stat(path); return err == nil })
	_ = d.hold(fdrecv.KindSeqpacket, `{"request_id":"rotated"}`).Close()
	if l := accessLines(t, path, 1)["rotated"]; l.End != "client_gone" {
		t.Errorf("%+v", l)
	}

	// Off, and on again in the other format: the stream that was open all the time has its line there.
	d.reload(strings.Replace(file, "access-log: DIR/access.log", "", 1), readAgain)
	d.awaitMetric("daemon_active_connections", 1)
	_ = d.hold(fdrecv.KindSeqpacket, `{"request_id":"unseen"}`).Close()
	d.awaitMetric("daemon_active_connections", 1)
	d.reload(file+"access-log-format: combined\n", readAgain)
	d.signal(syscall.SIGTERM)
	if r := readAll(held); !strings.Contains(string(r.bytes), "shutting down") {
		t.Errorf("%q, %v", r.bytes, r.err)
	}
	if code := d.wait(); code != exitFailed {
		t.Errorf("exit code %d", code)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if rest := strings.Split(string(content), "\n"); len(rest) != 3 || !strings.Contains(rest[1], `"-" 200 `) ||
		!strings.Contains(rest[1], `request_id="held"`) || !strings.Contains(rest[1], " end=drain ") {
		t.Errorf("%s", content)
	}
}

// A place for it that does not work is a refusal to start, and a refused reload that changes nothing.
func TestAccessLogThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	_, stderr, code := command(t, append(defaultArgs(dir), "-log-level", "warn", "-access-log", dir+"/none/a")...)
	if code != exitFailed || !strings.Contains(stderr, "-access-log") || !strings.Contains(stderr, "/none/a") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	d := launchFile(t, basics+"max-connections: 5\n")
	d.reload(basics+"max-connections: 6\naccess-log: DIR/none/a\n", "configuration: nothing is changed")
	if n := d.metric("daemon_max_connections"); n != 5 {
		t.Errorf("daemon_max_connections %v", n)
	}
}

// Goal: nothing that a payload says reaches a log as more than text, in any format of either log. Method: ids, header
// names and a broken payload that would end lines, close quotes and command terminals; each line of all logs is looked at.
func TestHostilePayloads(t *testing.T) {
	t.Parallel()
	hostile := `1\n{\"level\":\"ERROR\",\"msg\":\"forged\"}\r\nlevel=ERROR msg=forged \" \\ \u001b[2J\u001b]0;x\u0007 \u0000\u007f\u009b2J\u202e\t`
	payload := func(kind string) string {
		return `{"user_id":"` + kind + hostile + `","request_id":"` + kind + hostile + `","response_headers":{"X` + hostile + `":"v","Y":"` + hostile + `"}}`
	}
	for _, format := range []string{"text", "json"} {
		for access, name := range map[string]string{"json": "a.json", "combined": "a.combined"} {
			path := filepath.Join(shortDir(t), name)
			d := launch(t, setup{args: []string{"-log-format", format, "-log-level", "debug", "-demo-messages", "1", "-access-log", path, "-access-log-format", access}})
			eventually(t, "the daemon", func() bool { return strings.Contains(d.log.String(), "ready") })
			if a := d.ask(fdrecv.KindSeqpacket, payload("a")); !a.complete() {
				t.Errorf("%+v", a)
			}
			for _, broken := range []string{`{"prompt":"` + "\x1b[2J\n" + `"}`, "\x1b[2J\nlevel=ERROR", `{"response_headers":{"` + hostile + `":1}}`} {
				d.ask(fdrecv.KindSeqpacket, broken).refused(t, http.StatusBadRequest)
			}
			eventually(t, "the line on a header that was dropped", func() bool { return strings.Contains(d.log.String(), "header") })
			var lines []string
			eventually(t, "the access log", func() bool {
				content, _ := os.ReadFile(path)
				lines = strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
				return len(lines) >= 4
			})
			if len(lines) != 4 {
				t.Errorf("%d lines of 4 clients:\n%s", len(lines), strings.Join(lines, "\n"))
			}
			for _, line := range append(lines, d.log.all()...) {
				if !utf8.ValidString(line) || strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("a terminal would obey: %q", line)
				}
				if format == "json" && strings.HasPrefix(line, `{"level":"ERROR"`) || strings.HasPrefix(line, "level=ERROR") {
					t.Errorf("forged: %s", line)
				}
			}
		}
	}
}

// Standard output takes the lines too; when nobody reads them, streams go on, and what is lost is counted.
func TestAccessLogOnStdout(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0) // O_RDWR: the daemon's own open finds a reader
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() }) // after the daemon's end
	raw, err := reader.SyscallConn()         // Fd would take the deadline away
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Control(func(fd uintptr) { _, err = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, 4096) })
	if err != nil {
		t.Fatal(err)
	}
	d := launch(t, setup{dir: dir, args: []string{"-access-log", "-", "-demo-messages", "1"}, wrap: []string{"sh", "-c", `exec "$0" "$@" > ` + fifo}})
	d.awaitLog("ready")
	line := make([]byte, 4096)
	_ = reader.SetReadDeadline(time.Now().Add(patience))
	if a := d.ask(fdrecv.KindSeqpacket, `{"request_id":"first"}`); !a.complete() {
		t.Errorf("%+v", a)
	}
	if n, err := reader.Read(line); err != nil || !strings.Contains(string(line[:n]), `"request_id":"first"`) {
		t.Errorf("%q, %v", line[:n], err)
	}
	// Past the pipe, what one write takes, and the queue of 4,096.
	server, _ := fdtest.TCPPair(t)
	_ = server.Close()
	for range 5000 {
		if a := d.ask(fdrecv.KindFDPass, ""); !a.complete() {
			t.Fatalf("%+v", a)
		}
	}
	if n := d.metric("daemon_access_log_dropped_total"); n == 0 {
		t.Error("nothing was dropped")
	}
}
