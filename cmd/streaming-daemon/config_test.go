package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"streaming-daemon-go/fdrecv"
)

// writeFile makes or replaces a file of settings in the directory; DIR in it stands for that.
func writeFile(t testing.TB, dir, content string) (path string) {
	t.Helper()
	path = filepath.Join(dir, "sd.yaml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(content, "DIR", dir)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// basics are the settings of the zero setup as far as they are needed, in a file: a flag would win over it.
const basics = `
seqpacket-socket: DIR/seqpacket
socket: DIR/stream
fdpass-socket: DIR/fdpass
metrics-addr: 127.0.0.1:0
loops: 2
log-format: json
demo-delay: 1ms
`

// launchFile starts a daemon whose only flag is -config. environ is in front of that of the test.
func launchFile(t testing.TB, content string, environ ...string) *daemon {
	t.Helper()
	dir := shortDir(t)
	path := writeFile(t, dir, content)
	d := launch(t, setup{dir: dir, wrap: append(append([]string{"env"}, environ...), "sh", "-c", `exec "$0" -config `+path)})
	d.awaitLog("ready")
	return d
}

// command runs the binary to its end.
func command(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runOnce(t, exec.Command(binary, args...))
}

// check-config is for scripts: the exit code says whether a file is good, and each fault is a line that an editor can
// jump to.
func TestCheckConfig(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	good := writeFile(t, dir, basics)
	stdout, stderr, code := command(t, "check-config", good)
	if code != 0 || stderr != "" || stdout != good+": no faults\n" {
		t.Errorf("exit code %d: %q %q", code, stdout, stderr)
	}
	bad := writeFile(t, dir, "loops: 999\nmax_connections: 5\nmetrics-addr: nowhere\nlisteners:\n- {path: DIR/x, type: stream, mode: 9}\n")
	stdout, stderr, code = command(t, "check-config", bad)
	want := []string{":1:8: loops is \"999\"", ":2:1: there is no \"max_connections\": did you mean max-connections?", ":5:", ":3: metrics-addr is \"nowhere\""}
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	if code != exitFailed || stdout != "" || len(lines) != len(want) {
		t.Fatalf("exit code %d: %q\n%s", code, stdout, stderr)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, "streaming-daemon: "+bad+want[i]) {
			t.Errorf("%s, want %s", line, want[i])
		}
	}
	for _, args := range [][]string{nil, {good, good}, {"-x"}} {
		if _, stderr, code := command(t, append([]string{"check-config"}, args...)...); code != exitBadArgs || stderr == "" {
			t.Errorf("%v: exit code %d: %s", args, code, stderr)
		}
	}
	if _, stderr, code := command(t, "check-config", "-h"); code != 0 || !strings.Contains(stderr, "check-config FILE") {
		t.Errorf("-h: exit code %d: %s", code, stderr)
	}
	// The daemon itself says the same, and does not start.
	if _, stderr, code := command(t, "-config", bad); code != exitBadArgs || !strings.Contains(stderr, bad+":2:1:") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// config shows what is in force and where it comes from, as a file that brings about the same.
func TestConfigCommand(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	path := writeFile(t, dir, "\nloops: 3\nreject: sse\n")
	cmd := exec.Command(binary, "config", "-config", path, "-reject", "http")
	cmd.Env = append(os.Environ(), "STREAMING_DAEMON_WRITE_TIMEOUT=7s", "STREAMING_DAEMON_RITE_TIMEOUT=7s")
	stdout, stderr, code := runOnce(t, cmd)
	if code != 0 || !strings.Contains(stderr, "did you mean STREAMING_DAEMON_WRITE_TIMEOUT?") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	for name, want := range map[string][2]string{
		"loops": {"3", path + ":2"}, "reject": {"http", "flag -reject"}, "demo-delay": {"50ms", "default"},
		"write-timeout": {"7s", "environment STREAMING_DAEMON_WRITE_TIMEOUT"},
	} {
		if line := fmt.Sprintf("%-60s # %s\n", name+": "+want[0], want[1]); !strings.Contains(stdout, line) {
			t.Errorf("no line %q in\n%s", line, stdout)
		}
	}
	if _, stderr, code := command(t, "check-config", writeFile(t, dir, stdout)); code != 0 {
		t.Errorf("its own output: exit code %d: %s", code, stderr)
	}
	if _, stderr, code := command(t, "config", "-loops", "x"); code != exitBadArgs || !strings.Contains(stderr, "-loops") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// Goal: a listener of the file has the permissions that it says, lets in the peers that it says, and gives its payload to
// handoffs that bring none, as those of mod_proxy_fdpass do; the environment comes between file and default.
func TestListenersOfTheFile(t *testing.T) {
	t.Parallel()
	d := launchFile(t, fmt.Sprintf(`
metrics-addr: 127.0.0.1:0
log-format: json
loops: 1
listeners:
  - path: DIR/fdpass
    type: fdpass
    mode: 0622
    allow-uids: [%d]
    defaults:
      backend: demo
      payload: {prompt: from the file}
  - {path: DIR/stream, type: stream, defaults: {payload: {prompt: for who says nothing}}}
  - {path: DIR/seqpacket, type: seqpacket, allow-uids: [%d], allow-gids: [%d]}
`, os.Geteuid(), os.Geteuid()+1, os.Getegid()+1), "STREAMING_DAEMON_DEMO_DELAY=2ms")
	if a := d.ask(fdrecv.KindFDPass, ""); !a.complete() || a.text(t) != "Hello! You said: from the file" {
		t.Errorf("%+v", a)
	}
	if a := d.ask(fdrecv.KindStream, ""); !a.complete() || a.text(t) != "Hello! You said: for who says nothing" {
		t.Errorf("%+v", a)
	}
	if a := d.ask(fdrecv.KindStream, `{"prompt":"something"}`); !a.complete() || a.text(t) != "Hello! You said: something" {
		t.Errorf("a payload of its own: %+v", a)
	}
	for kind, want := range map[fdrecv.Kind]os.FileMode{fdrecv.KindFDPass: 0o622, fdrecv.KindStream: 0o660} {
		if info, err := os.Lstat(d.path(kind)); err != nil || info.Mode().Perm() != want {
			t.Errorf("%v: %v, %v, want mode %o", kind, info.Mode(), err, want)
		}
	}
	stdout, _, _ := handoffCommand(t, "-socket", d.path(fdrecv.KindSeqpacket))
	if stdout != "" {
		t.Errorf("a peer that is not allowed got %q", stdout)
	}
	if line := d.awaitLog("a peer that is not in allow-uids or allow-gids"); !strings.Contains(fmt.Sprint(line["error"]), fmt.Sprintf("user %d", os.Geteuid())) {
		t.Errorf("%v", line)
	}
	if n := d.metric(`daemon_handoff_errors_total{reason="other"}`); n != 1 {
		t.Errorf("%v handoff errors", n)
	}
}

// The group of the sockets is the web server's: the classic permission denied is one flag away.
func TestSocketGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file to a group that it is no member of")
	}
	d := launch(t, setup{args: []string{"-socket-group", "33", "-socket-owner", "34"}})
	d.awaitLog("ready")
	for _, kind := range kinds {
		info, err := os.Lstat(d.path(kind))
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); st.Gid != 33 || st.Uid != 34 || info.Mode().Perm() != 0o660 {
			t.Errorf("%v: %d:%d, mode %v", kind, st.Uid, st.Gid, info.Mode())
		}
	}
	if _, stderr, code := command(t, "-socket-group", "no-such-group-here"); code != exitBadArgs ||
		!strings.Contains(stderr, `-socket-group: this machine has no group "no-such-group-here"`) {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
