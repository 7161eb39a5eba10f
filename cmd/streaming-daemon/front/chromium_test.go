package front_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
)

// chromium is a headless browser with one tab, driven over a pair of pipes (--remote-debugging-pipe: one JSON object
// per message, each ended by NUL; the commands are those of the DevTools protocol). One goroutine.
type chromium struct {
	t       testing.TB
	in      *os.File
	out     *bufio.Reader
	session string // of the tab; "" until it is attached
	id      int
	loaded  bool // the page's load event has come
}

// startChromium gives a browser whose tab shows url. It skips the test on a machine that has none: the page's
// JavaScript cannot be run there at all.
func startChromium(t testing.TB, url string) *chromium {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			path = p
			break
		}
	}
	if path == "" {
		t.Skip("no chromium on this machine: the page's JavaScript needs a browser (apt-get install chromium)")
	}
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, fromBrowser, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "front-chromium-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage",
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
	// A browser that hangs must not hold the test for ever: reads fail after this.
	if err := out.SetReadDeadline(time.Now().Add(60 * time.Second)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
		_, _ = in.Close(), out.Close()
		// Its helpers die a moment after it, and may still write there until then.
		fdtest.Eventually(t, "the browser's directory to be removed", func() bool { return os.RemoveAll(home) == nil })
	})
	c := &chromium{t: t, in: in, out: bufio.NewReader(out)}
	var target struct{ TargetID string }
	c.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	c.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	c.session = attached.SessionID
	c.call("Page.enable", nil, nil)
	c.call("Page.navigate", map[string]any{"url": url}, nil)
	for !c.loaded {
		c.read("the page's load event")
	}
	return c
}

// message is an answer (ID) or an event (Method).
type message struct {
	ID     int
	Method string
	Result json.RawMessage
	Error  *struct{ Message string }
}

// read waits for the next message; what is waited for goes into the failure.
func (c *chromium) read(what string) message {
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
func (c *chromium) call(method string, params map[string]any, result any) {
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

// eval runs expression in the page, awaits it when it is a promise, and decodes its value into result unless that is
// nil. An exception ends the test.
func (c *chromium) eval(expression string, result any) {
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
