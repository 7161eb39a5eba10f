package packagetest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
)

const patience = 30 * time.Second

// commented is a line that an operator may take into use.
var commented = regexp.MustCompile(`(?m)^# ([a-z-]+: )`)

// checkConfig: the shipped settings are without a fault, also with every line in use that is commented out.
func checkConfig(t *testing.T, binary, path string) {
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := filepath.Join(t.TempDir(), "all.yaml")
	used := commented.ReplaceAll(content, []byte("$1"))
	if bytes.Equal(used, content) {
		t.Error("no setting is commented out")
	}
	if err := os.WriteFile(all, used, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{path, all} {
		if out, err := exec.Command(binary, "check-config", file).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

// checkServes: started as the unit does, but for the paths, which belong to the system, the daemon streams to a client,
// writes the access log, and ends well.
func checkServes(t *testing.T, binary, config string) {
	dir, err := os.MkdirTemp("", "sd") // short: the name of a socket has room for 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket, access := filepath.Join(dir, "s"), filepath.Join(dir, "access.log")
	cmd := exec.Command(binary, "-config", config, "-seqpacket-socket", socket, "-socket", "", "-metrics-addr", "127.0.0.1:0",
		"-access-log", access, "-demo-delay", "1ms")
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill() }()
	var got []byte
	fdtest.Eventually(t, "a client to be served", func() bool {
		got, err = exec.Command(binary, "handoff", "-socket", socket, "-data", `{"prompt":"packaged","request_id":"r1"}`).Output()
		return err == nil
	})
	if !bytes.HasPrefix(got, []byte("HTTP/1.1 200 OK\r\n")) || !bytes.Contains(got, []byte(" packaged")) || !bytes.HasSuffix(got, []byte("data: [DONE]\n\n")) {
		t.Errorf("the client got %q", got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("%v\n%s", err, &log)
		}
	case <-time.After(patience):
		t.Fatal("the daemon does not end")
	}
	if line, err := os.ReadFile(access); err != nil || !strings.Contains(string(line), `"r1"`) {
		t.Errorf("the access log is %q, %v", line, err)
	}
}

// checkLogrotate: logrotate takes the file, when it is there to be asked.
func checkLogrotate(t *testing.T, path string) {
	if _, err := exec.LookPath("logrotate"); err != nil {
		t.Skip("logrotate is not on PATH (apt-get install logrotate): left out is its judgement of the file")
	}
	state := filepath.Join(t.TempDir(), "state")
	out, err := exec.Command("logrotate", "--debug", "--state", state, path).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("error:")) {
		t.Errorf("%v\n%s", err, out)
	}
}
