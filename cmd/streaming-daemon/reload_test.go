package main_test

import (
	"bufio"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
)

// reload puts another file in place and waits until it was read, or refused.
func (d *daemon) reload(content, line string) map[string]any {
	d.t.Helper()
	before := d.log.count(line)
	writeFile(d.t, d.dir, content)
	d.signal(syscall.SIGHUP)
	eventually(d.t, "the line "+line, func() bool { return d.log.count(line) > before })
	return d.log.find(line)
}

// count is how many lines have the text.
func (l *logLines) count(text string) (n int) {
	for _, line := range l.all() {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

const readAgain = "configuration: read again"

// Goal: a SIGHUP puts limits and timeouts in force at once, for a stream that is open too, and the level and format of
// the log; what takes a restart is named and goes on as it was. Method: one stream stays open all the time.
func TestReload(t *testing.T) {
	t.Parallel()
	file := basics + "demo-messages: 1000000\nmax-connections: 1\nheartbeat-interval: 1h\n"
	file = strings.Replace(file, "demo-delay: 1ms", "demo-delay: 1h", 1)
	d := launchFile(t, file)
	client := d.hold(fdrecv.KindSeqpacket, "")
	d.ask(fdrecv.KindSeqpacket, "").refused(t, http.StatusServiceUnavailable)

	// More room, a heartbeat, and a port that takes a restart.
	file = strings.NewReplacer("max-connections: 1", "max-connections: 2", "heartbeat-interval: 1h", "heartbeat-interval: 50ms",
		"127.0.0.1:0", "127.0.0.1:1", "loops: 2", "loops: 1").Replace(file) + "log-level: debug\nmax-pending-bytes: 1MiB\n"
	line := d.reload(file, readAgain)
	if got := line["changed"]; got != "max-connections, heartbeat-interval, max-pending-bytes, log-level" {
		t.Errorf("changed: %v", got)
	}
	if d.log.find("active") == nil {
		t.Error("SIGHUP does not say who is there any more")
	}
	if w := d.log.find("these take a restart"); w == nil || !strings.Contains(w["msg"].(string), ": loops, metrics-addr") {
		t.Errorf("what takes a restart: %v", w)
	}
	_ = client.SetReadDeadline(time.Now().Add(patience))
	if got, err := bufio.NewReader(client).ReadString('\n'); err != nil || got != ": heartbeat\n" {
		t.Errorf("an open stream read %q, %v", got, err)
	}
	second := d.hold(fdrecv.KindStream, "")
	d.ask(fdrecv.KindSeqpacket, "").refused(t, http.StatusServiceUnavailable)
	if n := d.metric("daemon_max_connections"); n != 2 {
		t.Errorf("daemon_max_connections %v", n)
	}
	_ = second.Close()
	d.awaitLog("stream ended") // a debug line

	// A file with faults changes nothing.
	line = d.reload(strings.Replace(file, "max-connections: 2", "max-connections: 0", 1)+"nope: 1\n", "configuration: nothing is changed")
	for _, want := range []string{`max-connections is "0"`, `there is no "nope"`, d.dir + "/sd.yaml:"} {
		if !strings.Contains(line["msg"].(string), want) {
			t.Errorf("%v does not say %s", line["msg"], want)
		}
	}
	third := d.hold(fdrecv.KindStream, "")
	_ = third.Close()

	// Another format for the lines from now on, and an end for streams that are older already.
	writeFile(t, d.dir, strings.Replace(file, "log-format: json", "log-format: text", 1)+"max-stream-duration: 1ms\n")
	d.signal(syscall.SIGHUP)
	eventually(t, "a line of text", func() bool { return strings.Contains(d.log.String(), `msg="configuration: read again"`) })
	if r := readAll(client); r.err != nil || !strings.Contains(string(r.bytes), "maximum duration") {
		t.Errorf("the open stream ended with %q, %v", r.bytes, r.err)
	}
}

// A shorter handoff timeout and a shorter drain hold without a restart.
func TestReloadOfTimeouts(t *testing.T) {
	t.Parallel()
	file := strings.Replace(basics, "demo-delay: 1ms", "demo-delay: 1h\ndemo-messages: 5", 1) + "handoff-timeout: 10m\nshutdown-timeout: 1h\n"
	d := launchFile(t, file)
	d.reload(strings.NewReplacer("handoff-timeout: 10m", "handoff-timeout: 50ms", "shutdown-timeout: 1h", "shutdown-timeout: 10ms").Replace(file), readAgain)
	silent := dialStream(t, d)
	defer silent.Close()
	d.awaitMetric(`daemon_handoff_errors_total{reason="timeout"}`, 1)
	client := readLater(d.hold(fdrecv.KindSeqpacket, ""))
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != exitFailed { // a stream was cut
		t.Errorf("exit code %d", code)
	}
	if r := <-client; !strings.Contains(string(r.bytes), "shutting down") {
		t.Errorf("%q", r.bytes)
	}
}

// Without a file SIGHUP says who is there, as ever.
func TestReloadWithoutAFile(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.signal(syscall.SIGHUP)
	d.awaitLog("active")
	d.signal(syscall.SIGHUP)
	eventually(t, "the second line", func() bool { return d.log.count(`"active"`) == 2 })
	if d.log.find("configuration") != nil {
		t.Errorf("log:\n%s", d.log)
	}
}
