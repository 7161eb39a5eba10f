package daemontest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
)

// patience bounds every wait: far beyond what a loaded machine needs under the race detector.
const patience = 30 * time.Second

// Daemon is a daemon that runs until the end of the test.
type Daemon struct {
	// Stream, Seqpacket and FDPass are the paths of its handoff sockets. Anybody may connect: the web server in front
	// runs as another user.
	Stream, Seqpacket, FDPass string

	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{} // closed once the process has been waited for
	log    output
}

// Start runs a daemon with further flags and waits until it is ready. At the end of the test it is told to drain, and
// must end well: whoever starts a daemon first ends its clients first. One goroutine.
func Start(t testing.TB, args ...string) *Daemon {
	t.Helper()
	dir := Dir(t)
	d := &Daemon{
		Stream: filepath.Join(dir, "stream"), Seqpacket: filepath.Join(dir, "seqpacket"), FDPass: filepath.Join(dir, "fdpass"),
		t: t, exited: make(chan struct{}),
	}
	d.cmd = exec.Command(binary, append([]string{
		"-socket", d.Stream, "-seqpacket-socket", d.Seqpacket, "-fdpass-socket", d.FDPass, "-socket-mode", "0666",
		"-metrics-addr", "127.0.0.1:0", "-loops", "2", "-max-connections", "2000", "-demo-delay", "1ms",
		"-shutdown-timeout", "2s", "-log-format", "json",
	}, args...)...)
	d.cmd.Stderr = &d.log
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.exited)
		_ = d.cmd.Wait() // its error is the exit code, which stop looks at
	}()
	t.Cleanup(d.stop)
	d.await("ready")
	return d
}

// Dir makes a directory that any user may enter, with a path that leaves room for a socket's name. It is removed at
// the end of the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// Programs that were killed may still write there for a moment.
		fdtest.Eventually(t, dir+" to be removed", func() bool { return os.RemoveAll(dir) == nil })
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (d *Daemon) stop() {
	d.t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.exited:
		if code := d.cmd.ProcessState.ExitCode(); code != 0 || d.log.contains("DATA RACE", "panic", `"level":"ERROR"`) {
			d.t.Errorf("the daemon ended with code %d; its log:\n%s", code, d.log.String())
		}
	case <-time.After(patience):
		_ = d.cmd.Process.Kill()
		<-d.exited
		d.t.Errorf("the daemon does not end; its log:\n%s", d.log.String())
	}
}

// FrontURL is the address of its page, with a slash at the end, when it was started with -front.
func (d *Daemon) FrontURL() string {
	d.t.Helper()
	url, _ := d.await("front: open this page")["url"].(string)
	return strings.TrimSuffix(url, "/") + "/"
}

// Metric scrapes the daemon and gives the value of a sample, with its labels when it has some.
func (d *Daemon) Metric(name string) float64 {
	d.t.Helper()
	url, _ := d.find("listening", "metrics")["metrics"].(string)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	response, err := client.Get(url)
	if err != nil {
		d.t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			v, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return v
		}
	}
	d.t.Fatalf("no metric %s", name)
	return 0
}

// AwaitMetric waits until a sample has a value.
func (d *Daemon) AwaitMetric(name string, want float64) {
	d.t.Helper()
	var got float64
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if got = d.Metric(name); got == want {
			return
		}
	}
	d.t.Fatalf("%s is %v, waited in vain for %v", name, got, want)
}

// await waits for a log line with the message and gives its attributes.
func (d *Daemon) await(message string) (attributes map[string]any) {
	d.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if attributes = d.find(message, ""); attributes != nil {
			return attributes
		}
	}
	d.t.Fatalf("no line %q in the log:\n%s", message, d.log.String())
	return nil
}

// find gives the attributes of the first log line whose message contains a text and that has an attribute.
func (d *Daemon) find(message, attribute string) map[string]any {
	lines := bufio.NewScanner(strings.NewReader(d.log.String()))
	for lines.Scan() {
		var attributes map[string]any
		if json.Unmarshal(lines.Bytes(), &attributes) != nil {
			continue // of a library, before the daemon's own first line
		}
		text, _ := attributes["msg"].(string)
		if _, has := attributes[attribute]; strings.Contains(text, message) && (has || attribute == "") {
			return attributes
		}
	}
	return nil
}

// output is what a process writes. Any goroutine may use it.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer // guarded by mu
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) contains(texts ...string) bool {
	s := o.String()
	for _, text := range texts {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}
