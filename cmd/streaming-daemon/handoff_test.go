package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"streaming-daemon-go/fdrecv"
)

// handoffCommand runs the subcommand.
func handoffCommand(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runOnce(t, exec.Command(binary, append([]string{"handoff"}, args...)...))
}

// The tool for trouble-shooting shows what a client would get, over each socket, and finds out by itself of which type
// it is.
func TestHandoffCommand(t *testing.T) {
	t.Parallel()
	d := start(t)
	for _, kind := range kinds {
		args := []string{"-socket", d.path(kind), "-data", `{"prompt":"from a terminal"}`}
		want := "Hello! You said: from a terminal"
		if kind == fdrecv.KindFDPass {
			args, want = []string{"-socket", d.path(kind), "-kind", "fdpass"}, "Hello! You sent no prompt."
		}
		stdout, stderr, code := handoffCommand(t, args...)
		if code != 0 || stderr != "" {
			t.Errorf("%v: exit code %d: %s", kind, code, stderr)
		}
		if a := parse(t, raw{bytes: []byte(stdout)}, kind == fdrecv.KindFDPass); !a.complete() || a.text(t) != want {
			t.Errorf("%v: %q", kind, stdout)
		}
	}
	// What is no JSON is sent all the same, to see what the daemon makes of it.
	stdout, stderr, code := handoffCommand(t, "-socket", d.path(fdrecv.KindSeqpacket), "-data", "prompt=x")
	if code != 0 || !strings.Contains(stderr, "not valid JSON") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	parse(t, raw{bytes: []byte(stdout)}, false).refused(t, 400)
}

// Each failure says what usually helps.
func TestHandoffCommandHints(t *testing.T) {
	t.Parallel()
	d := start(t)
	gone := start(t)
	gone.signal(9)
	gone.wait()
	for _, tt := range []struct {
		name string
		args []string
		want string
		code int
	}{
		{"no socket", []string{"-socket", filepath.Join(d.dir, "none")}, "is the daemon running", exitFailed},
		{"a stale one", []string{"-socket", gone.path(fdrecv.KindStream)}, "nobody listens", exitFailed},
		{"the other type", []string{"-socket", d.path(fdrecv.KindStream), "-kind", "seqpacket"}, "of the other type", exitFailed},
		{"too large", []string{"-socket", d.path(fdrecv.KindSeqpacket), "-data", `"` + strings.Repeat("x", 100<<10) + `"`}, "", 0},
		{"payload over fdpass", []string{"-socket", d.path(fdrecv.KindFDPass), "-kind", "fdpass", "-data", "{}"}, "no payload", exitFailed},
		{"no kind", []string{"-kind", "dgram"}, `-kind is "dgram"`, exitFailed},
		{"stray argument", []string{"now"}, `"now"`, exitBadArgs},
	} {
		_, stderr, code := handoffCommand(t, tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) || strings.Count(stderr, "\n") > 1 {
			t.Errorf("%s: exit code %d: %s", tt.name, code, stderr)
		}
	}
	if _, stderr, code := handoffCommand(t, "-h"); code != 0 || !strings.Contains(stderr, "-socket") {
		t.Errorf("-h: exit code %d: %s", code, stderr)
	}
}
