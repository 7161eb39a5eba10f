package main_test

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/config"
	"streaming-daemon-go/fdrecv"
)

const (
	exitFailed  = 1
	exitBadArgs = 2
	nobody      = 65534 // the user "nobody" of every distribution
)

// runOnce runs the binary to its end. One that does not end, as it did start, is killed.
func runOnce(t testing.TB, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // its error is the exit code
	if !killed.Stop() {
		t.Errorf("%v did not end; stderr: %s", cmd.Args, &errs)
	}
	var lines []string
	for line := range strings.Lines(errs.String()) {
		if !isDependencyNoise(line) {
			lines = append(lines, line)
		}
	}
	return out.String(), strings.Join(lines, ""), cmd.ProcessState.ExitCode()
}

// Goal: whoever mistypes a flag or meets a socket that is in the way reads one line that names the flag, what is wrong
// (the path, the value) and the mend, and nothing that was there before is touched. Method: each row starts the binary
// in a directory of its own.
func TestRefusesToStart(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() }) // and no defer: the rows run when this function has returned
	longName := strings.Repeat("x", 120)
	for _, tt := range []struct {
		name    string
		prepare func(t *testing.T, dir string)
		args    []string // DIR stands for the directory
		user    int      // 0: this one
		want    []string // all in the one line
		code    int
	}{
		{name: "all sockets off", args: []string{"-socket", "", "-seqpacket-socket", "", "-fdpass-socket", ""},
			want: []string{"-socket", "-seqpacket-socket", "-fdpass-socket", "off"}, code: exitBadArgs},
		{name: "one path for two", args: []string{"-socket", "DIR/a", "-seqpacket-socket", "DIR/./a"},
			want: []string{"-socket", "-seqpacket-socket", "DIR/a", "its own"}, code: exitBadArgs},
		{name: "a file in the way", prepare: func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, "a"), []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, args: []string{"-socket", "DIR/a"}, want: []string{"-socket", "DIR/a", "not a socket", "remove it or choose another path"}, code: exitFailed},
		{name: "a link in the way", prepare: func(t *testing.T, dir string) {
			if err := os.Symlink("elsewhere", filepath.Join(dir, "a")); err != nil {
				t.Fatal(err)
			}
		}, args: []string{"-seqpacket-socket", "DIR/a"}, want: []string{"-seqpacket-socket", "DIR/a", "not a socket"}, code: exitFailed},
		{name: "somebody listens", prepare: listenIn("unix"), args: []string{"-socket", "DIR/a"},
			want: []string{"-socket", "DIR/a", "another process listens", "stop it or choose another path"}, code: exitFailed},
		{name: "somebody listens with another type", prepare: listenIn("unixpacket"), args: []string{"-fdpass-socket", "DIR/a"},
			want: []string{"-fdpass-socket", "DIR/a", "another type", "stop it or choose another path"}, code: exitFailed},
		{name: "no directory", args: []string{"-socket", "DIR/none/a"},
			want: []string{"-socket", "DIR/none/a", "does not exist", "create it"}, code: exitFailed},
		{name: "not writable", args: []string{"-socket", "DIR/a"}, user: nobody,
			want: []string{"-socket", "DIR/a", "must be writable"}, code: exitFailed},
		{name: "too long a path", args: []string{"-socket", "DIR/" + longName},
			want: []string{"-socket", longName, "107", "shorter"}, code: exitFailed},
		{name: "abstract", args: []string{"-socket", "@a"}, want: []string{"-socket", "@a", "use a path"}, code: exitFailed},
		{name: "no octal mode", args: []string{"-socket-mode", "rw"}, want: []string{"-socket-mode", `"rw"`, "octal"}, code: exitBadArgs},
		{name: "setuid mode", args: []string{"-socket-mode", "4777"}, want: []string{"-socket-mode", "4777", "octal"}, code: exitBadArgs},
		{name: "no connections", args: []string{"-max-connections", "0"}, want: []string{"-max-connections", "0", "at least 1"}, code: exitBadArgs},
		{name: "no number", args: []string{"-max-connections", "many"}, want: []string{"-max-connections", `"many"`, "-h"}, code: exitBadArgs},
		{name: "too few pending bytes", args: []string{"-max-pending-bytes", "1000"}, want: []string{"-max-pending-bytes", "1000", "65536"}, code: exitBadArgs},
		{name: "too many loops", args: []string{"-loops", "257"}, want: []string{"-loops", "257", "256"}, code: exitBadArgs},
		{name: "no write timeout", args: []string{"-write-timeout", "0"}, want: []string{"-write-timeout", "at least 1ms"}, code: exitBadArgs},
		{name: "no handoff timeout", args: []string{"-handoff-timeout", "0s"}, want: []string{"-handoff-timeout", "above 0"}, code: exitBadArgs},
		{name: "no unit", args: []string{"-heartbeat-interval", "15"}, want: []string{"-heartbeat-interval", `"15"`}, code: exitBadArgs},
		{name: "negative duration", args: []string{"-max-stream-duration", "-1s"}, want: []string{"-max-stream-duration", "-1s", "0 or more"}, code: exitBadArgs},
		{name: "negative shutdown", args: []string{"-shutdown-timeout", "-1s"}, want: []string{"-shutdown-timeout", "-1s", "0 or more"}, code: exitBadArgs},
		{name: "negative delay", args: []string{"-demo-delay", "-1s"}, want: []string{"-demo-delay", "-1s", "0 or more"}, code: exitBadArgs},
		{name: "negative messages", args: []string{"-demo-messages", "-1"}, want: []string{"-demo-messages", "-1", "0 or more"}, code: exitBadArgs},
		{name: "unknown backend", args: []string{"-backend", "nope"}, want: []string{"-backend", "nope", "demo"}, code: exitBadArgs},
		{name: "unknown rejection", args: []string{"-reject", "rudely"}, want: []string{"-reject", "rudely", "http or sse"}, code: exitBadArgs},
		{name: "unknown level", args: []string{"-log-level", "loud"}, want: []string{"-log-level", "loud", "debug, info, warn, error"}, code: exitBadArgs},
		{name: "unknown format", args: []string{"-log-format", "xml"}, want: []string{"-log-format", "xml", "text or json"}, code: exitBadArgs},
		{name: "unknown flag", args: []string{"-sokcet", "x"}, want: []string{"-sokcet", "-h"}, code: exitBadArgs},
		{name: "stray argument", args: []string{"start"}, want: []string{`"start"`, "-h"}, code: exitBadArgs},
		{name: "metrics address taken", args: []string{"-metrics-addr", taken.Addr().String()},
			want: []string{"-metrics-addr", taken.Addr().String(), "choose another port"}, code: exitFailed},
		{name: "metrics address without a port", args: []string{"-metrics-addr", "localhost"},
			want: []string{"-metrics-addr", "localhost", "host:port"}, code: exitFailed},
		{name: "pprof address taken", args: []string{"-pprof-addr", taken.Addr().String()},
			want: []string{"-pprof-addr", taken.Addr().String(), "choose another port"}, code: exitFailed},
		{name: "front address taken", args: []string{"-front", taken.Addr().String()},
			want: []string{"-front", taken.Addr().String()}, code: exitFailed},
		{name: "front with fdpass only", args: []string{"-front", "127.0.0.1:0", "-socket", "", "-seqpacket-socket", ""},
			want: []string{"-front needs -seqpacket-socket or -socket"}, code: exitBadArgs},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := shortDir(t)
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			if tt.prepare != nil {
				tt.prepare(t, dir)
			}
			before := describe(t, dir)
			args := append(defaultArgs(dir), "-log-level", "warn")
			for _, a := range tt.args {
				args = append(args, strings.ReplaceAll(a, "DIR", dir))
			}
			cmd := exec.Command(binary, args...)
			if tt.user != 0 {
				if os.Getuid() == 0 {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				} else if err := os.Chmod(dir, 0o555); err != nil {
					t.Fatal(err)
				}
			}
			stdout, stderr, code := runOnce(t, cmd)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if strings.Count(stderr, "\n") != 1 || stdout != "" {
				t.Errorf("want one line on stderr and none on stdout:\n%s%s", stderr, stdout)
			}
			line := strings.ReplaceAll(stderr, `\"`, `"`) // a JSON string
			for _, want := range tt.want {
				if want = strings.ReplaceAll(want, "DIR", dir); !strings.Contains(line, want) {
					t.Errorf("%q is not in %s", want, line)
				}
			}
			if after := describe(t, dir); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// listenIn listens on the socket "a" in the directory until the end of the test.
func listenIn(network string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		ln, err := net.Listen(network, filepath.Join(dir, "a"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
	}
}

// describe lists what a directory has, but for the lock files, which stay behind by design.
func describe(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".lock") {
			continue
		}
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(info.Mode().String() + " " + e.Name() + " " + info.ModTime().String() + "\n")
	}
	return b.String()
}

// Goal: a second instance leaves the first one alone, and the first one's death leaves nothing in the way of a third.
func TestOneDaemonPerPath(t *testing.T) {
	t.Parallel()
	first := start(t)
	for _, kind := range kinds {
		args := []string{"-log-level", "warn", "-metrics-addr", ""}
		for _, other := range kinds { // all paths but this one are its own
			if other != kind {
				args = append(args, "-"+flagOf(other), filepath.Join(first.dir, "second-"+other.String()))
			}
		}
		_, stderr, code := runOnce(t, exec.Command(binary, append(defaultArgs(first.dir), args...)...))
		if code != exitFailed || !strings.Contains(stderr, "another process listens on "+first.path(kind)) ||
			!strings.Contains(stderr, "-"+flagOf(kind)+":") {
			t.Errorf("%v: exit code %d: %s", kind, code, stderr)
		}
		if a := first.ask(kind, ""); !a.complete() {
			t.Errorf("%v: the first daemon does not serve any more: %+v", kind, a)
		}
	}
	first.signal(syscall.SIGKILL)
	if code := first.wait(); code != -1 {
		t.Fatalf("exit code %d of a killed process", code)
	}
	for _, kind := range kinds {
		if info, err := os.Lstat(first.path(kind)); err != nil || info.Mode().Type() != os.ModeSocket {
			t.Fatalf("the test needs stale sockets: %v", err)
		}
	}
	third := launch(t, setup{dir: first.dir})
	third.awaitLog("ready")
	for _, kind := range kinds {
		if a := third.ask(kind, ""); !a.complete() {
			t.Errorf("%v after a restart: %+v", kind, a)
		}
	}
}

// flagOf is the flag with the path for a kind.
func flagOf(kind fdrecv.Kind) string {
	if kind == fdrecv.KindStream {
		return "socket"
	}
	return kind.String() + "-socket"
}

// The mode is that of the flag, whatever the umask is: 0660 lets the web server's group in and nobody else.
func TestSocketMode(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args []string
		want os.FileMode
	}{{nil, 0o660}, {[]string{"-socket-mode", "0622"}, 0o622}} {
		d := launch(t, setup{args: tt.args, wrap: []string{"sh", "-c", `umask 077; exec "$0" "$@"`}})
		d.awaitLog("ready")
		for _, kind := range kinds {
			info, err := os.Lstat(d.path(kind))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != tt.want {
				t.Errorf("%v: mode %o, want %o", kind, got, tt.want)
			}
		}
	}
}

// -h is asked for, so it goes to stdout, where a pager reads, and it is no failure.
func TestHelp(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := runOnce(t, exec.Command(binary, "-h"))
	if code != 0 || stderr != "" {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	golden := filepath.Join("testdata", "help.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(stdout), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if stdout != string(want) {
		t.Errorf("-h prints (go test -run TestHelp -update writes it to the golden file)\n%s\nwant\n%s", stdout, want)
	}
	// A flag in no group would be missing from the text and from every reader's mind.
	for _, name := range append(config.Names(), "version") {
		if !strings.Contains(stdout, "\n  -"+name+" ") && !strings.Contains(stdout, "\n  -"+name+"\n") {
			t.Errorf("-%s is in no group", name)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	stdout, stderr, code := runOnce(t, exec.Command(binary, "-version"))
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, "streaming-daemon ") || strings.Count(stdout, "\n") != 1 ||
		!strings.Contains(stdout, "commit ") {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

// A client of the daemon's own making must not be able to forge a log line: the payload is data.
func TestPayloadCannotForgeALogLine(t *testing.T) {
	t.Parallel()
	d := launch(t, setup{args: []string{"-log-format", "text"}})
	eventually(t, "the daemon", func() bool { return strings.Contains(d.log.String(), "msg=ready") })
	payload := `{"prompt":"x","request_id":"1\nlevel=ERROR msg=forged","response_headers":{"Bad\nlevel=ERROR":"v"}}`
	if a := d.ask(fdrecv.KindSeqpacket, payload); !a.complete() {
		t.Fatalf("%+v", a)
	}
	eventually(t, "the line on the bad header", func() bool { return strings.Contains(d.log.String(), "forged") })
	for _, line := range d.log.all() {
		if strings.HasPrefix(line, "level=") || strings.Contains(line, "level=ERROR") && !strings.Contains(line, `\nlevel=ERROR`) {
			t.Errorf("forged: %s", line)
		}
	}
}
