package main_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// Goal: the daemon is not at the mercy of the copy of the client socket that the web server still has (P-07, P-13):
// the client sees the end of its stream while that copy is open, and a client that vanishes without a FIN is found
// within the write timeout, not after 15 minutes (P-15). Method: the sender's copy is kept open; options belong to the
// socket, so they can be read through it.
func TestSenderKeepsItsCopy(t *testing.T) {
	t.Parallel()
	d := start(t, "-write-timeout", "7s")
	for _, kind := range kinds {
		server, client := fdtest.TCPPair(t)
		defer server.Close()
		if err := unix.SetNonblock(server.Int(), false); err != nil { // whatever the sender left
			t.Fatal(err)
		}
		if err := fdrecv.Send(d.path(kind), kind, server.Int(), nil, sendTimeout); err != nil {
			t.Fatal(err)
		}
		if a := parse(t, readAll(client), kind == fdrecv.KindFDPass); !a.complete() {
			t.Errorf("%v: %+v", kind, a)
		}
		for option, want := range map[int]int{unix.TCP_USER_TIMEOUT: 7000, unix.TCP_NOTSENT_LOWAT: 16 << 10} {
			if got, err := unix.GetsockoptInt(server.Int(), unix.IPPROTO_TCP, option); err != nil || got != want {
				t.Errorf("%v: TCP option %d is %d (%v), want %d", kind, option, got, err, want)
			}
		}
	}
	d.awaitMetric("daemon_active_connections", 0)
}
