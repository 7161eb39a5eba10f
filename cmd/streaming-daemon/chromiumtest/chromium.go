package chromiumtest

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
)

// patience is how long one browser may be used: one that hangs must not hold the test for ever.
const patience = 60 * time.Second

// Browser is a headless browser with one tab, driven over a pair of pipes (--remote-debugging-pipe: one JSON object
// per message, each ended by NUL; the commands are those of the DevTools protocol). One goroutine: that of the test,
// which any fault ends.
type Browser struct {
	t       testing.TB
	in      *os.File
	out     *bufio.Reader
	session string // of the tab; "" until it is attached
	id      int
	loaded  bool // the page's load event has come
}

// program is the browser's path; "": there is none on this machine.
func program() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// Need skips the test on a machine without a browser: what it is about cannot be seen there at all.
func Need(t testing.TB) {
	t.Helper()
	if program() == "" {
		t.Skip("no chromium on this machine: what a browser does needs one (apt-get install chromium)")
	}
}

// Start gives a browser whose tab has loaded url, until the end of the test. See Need for a machine that has none.
func Start(t testing.TB, url string) *Browser {
	t.Helper()
	Need(t)
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "chromium-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-breakpad", "--user-data-dir="+filepath.Join(home, "profile"), "--remote-debugging-pipe", "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, fromBrowser}      // descriptors 3 and 4, as the flag wants them
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // its helpers too end with it
	cmd.Env = append(os.Environ(), "HOME="+home)          // it writes there too
	err = cmd.Start()
	_, _ = fromUs.Close(), fromBrowser.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_, _ = in.Close(), out.Close()
		// Its helpers die a moment after it, and may still write there until then.
		fdtest.Eventually(t, "the browser's directory to be removed", func() bool { return os.RemoveAll(home) == nil })
	})
	c := &Browser{t: t, in: in, out: bufio.NewReader(out)}
	var target struct{ TargetID string }
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	c.session = attached.SessionID
	c.call("Page.enable", nil, nil)
	c.Open(url)
	return c
}

// Open loads url into the tab and waits for its load event.
func (c *Browser) Open(url string) {
	c.t.Helper()
	c.loaded = false
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	for !c.loaded {
		c.read("the page's load event")
	}
}

// Version is the browser's name and version.
func (c *Browser) Version() string {
	c.t.Helper()
	var answer struct{ Product string }
	c.call("Browser.getVersion", nil, &answer)
	return answer.Product
}

// Size sets the size of what the page is shown in, in CSS pixels, and asks it for its light colours.
func (c *Browser) Size(width, height int) {
	c.t.Helper()
	c.call("Emulation.setDeviceMetricsOverride",
		map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	c.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{
		{"name": "prefers-color-scheme", "value": "light"}}}, nil)
}

// Screenshot gives the whole page, as wide as Size has set, as a PNG.
func (c *Browser) Screenshot() []byte {
	c.t.Helper()
	var answer struct{ Data string }
	c.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}, &answer)
	png, err := base64.StdEncoding.DecodeString(answer.Data)
	if err != nil {
		c.t.Fatal(err)
	}
	return png
}

// message is an answer (ID) or an event (Method).
type message struct {
	ID     int
	Method string
	Result json.RawMessage
	Error  *struct{ Message string }
}

// read waits for the next message; what is waited for goes into the failure.
func (c *Browser) read(what string) message {
	c.t.Helper()
	b, err := c.out.ReadBytes(0)
	if err != nil {
		c.t.Fatalf("chromium: waiting for %s: %v", what, err)
	}
	var m message
	if err := json.Unmarshal(bytes.TrimSuffix(b, []byte{0}), &m); err != nil {
		c.t.Fatal(err)
	}
	c.loaded = c.loaded || m.Method == "Page.loadEventFired"
	return m
}

// call runs one command and waits for its answer; of the events that come in between, read keeps what matters.
func (c *Browser) call(method string, params map[string]any, result any) {
	c.t.Helper()
	c.id++
	command := map[string]any{"id": c.id, "method": method}
	if params != nil {
		command["params"] = params
	}
	if c.session != "" {
		command["sessionId"] = c.session
	}
	b, err := json.Marshal(command)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.in.Write(append(b, 0)); err != nil {
		c.t.Fatal(err)
	}
	for {
		answer := c.read(method)
		if answer.ID != c.id {
			continue
		}
		if answer.Error != nil {
			c.t.Fatalf("%s: %s", method, answer.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(answer.Result, result); err != nil {
				c.t.Fatal(err)
			}
		}
		return
	}
}

// Eval runs expression in the page, awaits it when it is a promise, and decodes its value into result unless that is
// nil. An exception ends the test.
func (c *Browser) Eval(expression string, result any) {
	c.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	c.call("Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &answer)
	if e := answer.ExceptionDetails; e != nil {
		c.t.Fatalf("%s %s", e.Text, e.Exception.Description)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Result.Value, result); err != nil {
			c.t.Fatalf("%s: %v in %s", expression, err, answer.Result.Value)
		}
	}
}
