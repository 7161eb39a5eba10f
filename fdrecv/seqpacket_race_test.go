package fdrecv_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
)

// TestP01SendAndCloseAtOnce: a sender that sends and closes while the receiver looks loses nothing. Method: a receiver
// that spins on a fresh SOCK_SEQPACKET pair; the kernel reports a false end about once in 3,500 rounds.
func TestP01SendAndCloseAtOnce(t *testing.T) {
	rounds := 40_000
	if testing.Short() {
		rounds = 6_000
	}
	client, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(client[0])
	defer unix.Close(client[1])
	senders := make(chan int)
	go func() {
		rights := unix.UnixRights(client[0])
		for fd := range senders {
			if err := unix.Sendmsg(fd, []byte("{}"), rights, nil, unix.MSG_NOSIGNAL); err != nil {
				t.Errorf("sendmsg: %v", err)
			}
			_ = unix.Close(fd)
		}
	}()
	defer close(senders)
	lost := 0
	spin := fdrecv.NewSpin()
	for range rounds {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		senders <- pair[1]
		h := spin.Receive(pair[0], fdrecv.KindSeqpacket)
		if h.Err != nil {
			lost++
		}
		_ = h.Client.Close()
		_ = unix.Close(pair[0])
	}
	if lost > 0 {
		t.Errorf("%d of %d handoffs were lost", lost, rounds)
	}
}
