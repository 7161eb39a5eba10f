package main_test

import (
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// SIGHUP asks how many are there.
func TestHangupSignalLogsWhoIsThere(t *testing.T) {
	t.Parallel()
	d := start(t, endless...)
	for range 3 {
		d.hold(fdrecv.KindSeqpacket, "")
	}
	d.signal(syscall.SIGHUP)
	line := d.awaitLog("active")
	if connections, streams := number(t, line, "connections"), number(t, line, "streams"); connections != 3 || streams != 3 {
		t.Errorf("%d connections and %d streams, want 3 and 3", connections, streams)
	}
}

// Goal: a log collector that restarts takes no stream with it. Method: the reader of stderr goes, the daemon is made
// to write (a line for each SIGHUP), and it must go on to serve and to end well.
func TestBrokenStderrKillsNobody(t *testing.T) {
	t.Parallel()
	d := start(t, endless...)
	client := d.hold(fdrecv.KindSeqpacket, "")
	d.log.hangUp()
	for range 3 { // a write that fails, and then some
		d.signal(syscall.SIGHUP)
		d.hold(fdrecv.KindStream, "")
	}
	d.signal(syscall.SIGPIPE) // the signal itself
	d.hold(fdrecv.KindFDPass, "")
	_ = client.Close()
}

// Goal: nobody reads stderr any more, the pipe is full, and streams go on: loops log and must not block. Method: at
// level debug each of 4,000 connections without a handoff is a line, where the smallest pipe and the queue hold some
// 1,100; then a whole stream must come through on both loops. Once somebody reads again, the gap is told.
func TestFullStderrStopsNoStream(t *testing.T) {
	t.Parallel()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	d := launch(t, setup{args: []string{"-log-level", "debug"}, stderr: write})
	eventually(t, "somebody to listen", func() bool {
		server, _ := fdtest.TCPPair(t)
		defer server.Close()
		return fdrecv.Send(d.path(fdrecv.KindFDPass), fdrecv.KindFDPass, server.Int(), nil, sendTimeout) == nil
	})
	for range 4000 {
		probe := fdtest.Dial(t, d.path(fdrecv.KindSeqpacket), unix.SOCK_SEQPACKET)
		_ = probe.Close()
	}
	for range 4 { // behind all of them in the same backlog
		if a := d.ask(fdrecv.KindSeqpacket, `{"prompt":"still here"}`); !a.complete() {
			t.Fatalf("%+v", a)
		}
	}
	d.log = newLogLines(read)
	eventually(t, "the line on the lines that were dropped", func() bool {
		return strings.Contains(d.log.String(), "log lines were dropped")
	})
}
