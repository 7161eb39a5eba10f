package main_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"streaming-daemon-go/bench/compare"
	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/target"
)

// TestSyscallsPage: SYSCALLS.md says what strace counts, for each call that is a stream's own; and a stream makes no call
// that the page does not name.
func TestSyscallsPage(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	spec, err := target.BuildDaemon(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const streams = 100
	counted, err := compare.Syscalls(t.Context(), spec, load.Seqpacket, streams)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("SYSCALLS.md")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	exact := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		for call := range strings.SplitSeq(cells[1], ",") {
			named[strings.TrimSpace(call)] = true
		}
		want, err := strconv.ParseFloat(strings.TrimSpace(cells[2]), 64)
		if err != nil {
			continue
		}
		exact++
		call := strings.TrimSpace(cells[1])
		less, more := 0.1, 0.1 // what the daemon's own start and end differ by, over 100 streams
		switch call {
		case "sendto":
			less = 3 // on a machine that stalls, events share a call
		case "recvmsg", "epoll_ctl":
			more = 0.9 // there, a handoff may come in two steps: the connection first, then its message
		}
		if got := counted[call]; got < want-less || got > want+more {
			t.Errorf("%s: %.2f per stream, the page says %v", call, got, want)
		}
	}
	if exact < 9 {
		t.Errorf("%d calls with a number were found on the page", exact)
	}
	for call, n := range counted {
		if n >= 0.9 && !named[call] {
			t.Errorf("%s: %.2f per stream, and the page does not name it", call, n)
		}
	}
}
