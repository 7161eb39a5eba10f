package main_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// stop stops every thread of the daemon and waits until they stand.
func (d *daemon) stop() {
	d.t.Helper()
	d.signal(syscall.SIGSTOP)
	eventually(d.t, "the daemon to stand", func() bool {
		threads, err := filepath.Glob("/proc/" + d.pid() + "/task/*/stat")
		if err != nil || len(threads) == 0 {
			d.t.Fatalf("no threads: %v", err)
		}
		for _, thread := range threads {
			b, err := os.ReadFile(thread)
			if err != nil {
				continue // it has ended
			}
			// proc_pid_stat(5): the state is behind the name, which is in brackets.
			if _, state, _ := strings.Cut(string(b), ") "); !strings.HasPrefix(state, "T") {
				return false
			}
		}
		return true
	})
}

// Goal: a handoff that its sender believes delivered is served, even when SIGTERM finds it in the backlog (P-01,
// P-22). Method: the daemon stands while 500 clients are handed over, and it sees the signal first when it goes on.
func TestDrainServesTheBacklog(t *testing.T) {
	t.Parallel()
	const clients = 500
	d := start(t, "-demo-messages", "5", "-demo-delay", "20ms")
	d.stop()
	var answers [clients]<-chan raw
	for i := range answers {
		answers[i] = readLater(d.handOver(kinds[i%len(kinds)], ""))
	}
	d.signal(syscall.SIGTERM)
	d.signal(syscall.SIGCONT)
	lost := 0
	for i, c := range answers {
		kind := kinds[i%len(kinds)]
		r := <-c
		if len(r.bytes) == 0 {
			lost++
			continue
		}
		if a := parse(t, r, kind == fdrecv.KindFDPass); !a.complete() || a.contents() != 5 {
			t.Fatalf("client %d over %v: %v after %q", i, kind, r.err, r.bytes)
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d clients were lost", lost, clients)
	}
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d; log:\n%s", code, d.log)
	}
	for _, kind := range kinds {
		if _, err := os.Lstat(d.path(kind)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket of %v stays: %v", kind, err)
		}
	}
}

// Streams of one event every hour are left at the end of -shutdown-timeout: each hears of it, is told when to come
// back, at a time of its own, and they end one after the other.
func TestDrainTimeoutCutsWithAWord(t *testing.T) {
	t.Parallel()
	const clients = 60
	d := start(t, append(endless, "-shutdown-timeout", "100ms")...)
	var answers [clients]<-chan raw
	for i := range answers {
		// Their head and first event are read by hold.
		answers[i] = readLater(d.hold(kinds[i%len(kinds)], ""))
	}
	d.signal(syscall.SIGTERM)
	var first, last time.Time
	retries := map[time.Duration]bool{}
	for i, c := range answers {
		r := <-c
		a := parse(t, r, true)
		if r.err != nil || len(a.events) != 1 || a.events[0].name != "error" || !strings.Contains(a.events[0].data, "shutting down") {
			t.Fatalf("client %d: %v after %q", i, r.err, r.bytes)
		}
		// Spread over 5 s, they come back within one second and one second and twice that time.
		if retry := a.events[0].retry; retry < time.Second || retry > 11*time.Second {
			t.Errorf("client %d: retry %v", i, retry)
		}
		retries[a.events[0].retry] = true
		if first.IsZero() || r.at.Before(first) {
			first = r.at
		}
		if r.at.After(last) {
			last = r.at
		}
	}
	if len(retries) < clients/2 { // of 10,001 values
		t.Errorf("%d different times to come back for %d clients", len(retries), clients)
	}
	// Two loops, one stream each every 50 ms: 1.5 s from the first to the last. A second is too long for any other cause.
	if spread := last.Sub(first); spread < time.Second || spread > 9*time.Second {
		t.Errorf("they ended within %v", spread)
	}
	if code := d.wait(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if cut := number(t, d.awaitLog("ended"), "streams_cut"); cut != clients {
		t.Errorf("%d streams cut in the log, want %d", cut, clients)
	}
}

// A client that has its whole stream and is only slow to close is no reason for exit code 1: the stream ended by
// itself, in time.
func TestDrainWithALingeringClientIsClean(t *testing.T) {
	t.Parallel()
	d := start(t, "-demo-messages", "1", "-shutdown-timeout", "50ms")
	client := d.handOver(fdrecv.KindSeqpacket, "")
	got := make([]byte, 0, 4096)
	_ = client.SetReadDeadline(time.Now().Add(patience))
	for !strings.HasSuffix(string(got), "[DONE]\n\n") {
		n, err := client.Read(got[len(got):cap(got)])
		if got = got[:len(got)+n]; err != nil {
			t.Fatalf("%q: %v", got, err)
		}
	}
	d.signal(syscall.SIGTERM) // the client stays open
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d; log:\n%s", code, d.log)
	}
	d.awaitLog("-shutdown-timeout is over") // or the test has not seen what it is about
}

// A second signal ends the daemon at once, long before -shutdown-timeout (2m).
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d := start(t, endless...)
		client := d.hold(fdrecv.KindStream, "")
		d.signal(sig)
		d.awaitLog("draining")
		d.signal(syscall.SIGHUP) // this one is no second signal
		d.awaitLog("active")
		if err := d.cmd.Process.Signal(syscall.Signal(0)); err != nil {
			t.Fatalf("%v and SIGHUP ended it: %v", sig, err)
		}
		begun := time.Now()
		d.signal(sig)
		if code := d.wait(); code != 1 {
			t.Errorf("%v: exit code %d", sig, code)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("%v: %v after the second one", sig, took)
		}
		d.awaitLog("a second signal")
		_ = client.Close()
	}
}

// While it drains, nobody can hand over any more, but what had begun completes: a handoff whose payload is not whole.
func TestDrainRefusesNewHandoffs(t *testing.T) {
	t.Parallel()
	d := start(t, "-demo-messages", "3")
	server, client := fdtest.TCPPair(t)
	defer server.Close()
	sender := fdtest.Dial(t, d.path(fdrecv.KindStream), unix.SOCK_STREAM)
	fdtest.SendFDs(t, sender.Int(), []byte(`{"prompt":`), server.Int())
	eventually(t, "the first half to arrive", func() bool { return d.metric("daemon_connections_total") == 1 })
	d.signal(syscall.SIGTERM)
	d.awaitLog("draining")
	for _, kind := range kinds {
		eventually(t, "the socket to go", func() bool {
			_, err := os.Lstat(d.path(kind))
			return errors.Is(err, fs.ErrNotExist)
		})
	}
	err := fdrecv.Send(d.path(fdrecv.KindStream), fdrecv.KindStream, server.Int(), nil, sendTimeout)
	if !errors.Is(err, unix.ENOENT) {
		t.Errorf("a handoff during the drain: %v", err)
	}
	if _, err := unix.Write(sender.Int(), []byte(`"late"}`)); err != nil {
		t.Fatal(err)
	}
	_ = sender.Close()
	if a := parse(t, readAll(client), false); !a.complete() || a.contents() != 3 {
		t.Errorf("the half handoff: %+v", a)
	}
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A path that is somebody else's by now is not removed: neither a file nor the socket of another daemon, which must go
// on serving.
func TestDrainLeavesOtherPathsAlone(t *testing.T) {
	t.Parallel()
	d, other := start(t), start(t)
	if err := os.Remove(d.path(fdrecv.KindStream)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.path(fdrecv.KindStream), []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other.path(fdrecv.KindSeqpacket), d.path(fdrecv.KindSeqpacket)); err != nil {
		t.Fatal(err)
	}
	d.signal(syscall.SIGTERM)
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if b, err := os.ReadFile(d.path(fdrecv.KindStream)); err != nil || string(b) != "precious" {
		t.Errorf("the file: %q, %v", b, err)
	}
	server, client := fdtest.TCPPair(t)
	defer server.Close()
	if err := fdrecv.Send(d.path(fdrecv.KindSeqpacket), fdrecv.KindSeqpacket, server.Int(), nil, sendTimeout); err != nil {
		t.Fatalf("the other daemon's socket: %v", err)
	}
	if a := parse(t, readAll(net.Conn(client)), false); !a.complete() {
		t.Errorf("the other daemon: %+v", a)
	}
	if _, err := os.Lstat(d.path(fdrecv.KindFDPass)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the one that was still its own stays: %v", err)
	}
}
