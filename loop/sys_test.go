package loop_test

import (
	"bytes"
	"os"
	"os/signal"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

func TestFD(t *testing.T) {
	var none loop.FD
	if none.Valid() || none.Int() != -1 || none.Release() != -1 || none.Close() != nil {
		t.Error("the zero FD holds something")
	}
	fd, _ := socketPair(t)
	n := fd.Int()
	if !fd.Valid() || n < 0 {
		t.Fatalf("holds %d", n)
	}
	if got := fd.Release(); got != n || fd.Valid() || fd.Close() != nil {
		t.Fatalf("released %d of %d", got, n)
	}
	again := loop.OwnFD(n) // open still: Close of an empty FD closed nothing
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil || again.Valid() {
		t.Fatalf("the second Close: %v", err)
	}
	gone := loop.OwnFD(n)
	if err := gone.Close(); err != unix.EBADF {
		t.Fatalf("Close of a closed number: %v", err)
	}
	defer func() {
		if recover() == nil {
			t.Error("OwnFD(-1) did not panic")
		}
	}()
	loop.OwnFD(-1)
}

// TestNeverBlocks: the calls do not wait, though the descriptors are in blocking mode as a sender may leave them (P-13).
func TestNeverBlocks(t *testing.T) {
	near, far := socketPair(t)
	defer near.Close()
	for _, fd := range []int{near.Int(), far} {
		if err := unix.SetNonblock(fd, false); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 10)
	if n, err := loop.Recv(near.Int(), b); n != 0 || err != unix.EAGAIN {
		t.Errorf("Recv of nothing: %d, %v", n, err)
	}
	fill(t, near.Int())
	if n, err := loop.Sendv(near.Int(), [][]byte{b, b}); n != 0 || err != unix.EAGAIN {
		t.Errorf("Sendv to a full socket: %d, %v", n, err)
	}
	for _, call := range []func(int, []byte) (int, error){loop.Recv, loop.Send} {
		if n, err := call(near.Int(), nil); n != 0 || err != nil {
			t.Errorf("of no bytes: %d, %v", n, err)
		}
	}
}

// TestNoSIGPIPE: writing to a client that is gone is an error and not a signal. A SIGWINCH to ourselves comes after what
// the calls may have raised and says when to look.
func TestNoSIGPIPE(t *testing.T) {
	near, far := socketPair(t)
	defer near.Close()
	closeNow(t, far)
	signals := make(chan os.Signal, 10)
	signal.Notify(signals, unix.SIGPIPE, unix.SIGWINCH)
	defer signal.Stop(signals)
	if _, err := loop.Send(near.Int(), []byte("x")); err != unix.EPIPE {
		t.Errorf("Send: %v", err)
	}
	if _, err := loop.Sendv(near.Int(), [][]byte{[]byte("x")}); err != unix.EPIPE {
		t.Errorf("Sendv: %v", err)
	}
	if err := unix.Kill(unix.Getpid(), unix.SIGWINCH); err != nil {
		t.Fatal(err)
	}
	for s := range signals {
		if s == unix.SIGWINCH {
			break
		}
		t.Errorf("raised %v", s)
	}
	if n, err := loop.Recv(near.Int(), make([]byte, 1)); n != 0 || err != nil {
		t.Errorf("Recv at the end: %d, %v", n, err)
	}
	if _, err := loop.Recv(-1, make([]byte, 1)); err != unix.EBADF {
		t.Errorf("Recv of no descriptor: %v", err)
	}
}

func TestSendv(t *testing.T) {
	near, far := socketPair(t)
	defer near.Close()
	var many [][]byte
	for i := range loop.SendvMax + 10 {
		many = append(many, []byte{byte(i)})
	}
	tests := []struct {
		name   string
		pieces [][]byte
		want   []byte
	}{
		{"none", nil, nil},
		{"empty ones", [][]byte{nil, {}}, nil},
		{"some empty", [][]byte{nil, []byte("ab"), {}, []byte("c")}, []byte("abc")},
		{"more than it takes", many, bytes.Join(many[:loop.SendvMax], nil)},
	}
	for _, tt := range tests {
		n, err := loop.Sendv(near.Int(), tt.pieces)
		if n != len(tt.want) || err != nil {
			t.Errorf("%s: %d, %v", tt.name, n, err)
		}
		if data, _ := readAll(far); data != string(tt.want) {
			t.Errorf("%s: %q arrived", tt.name, data)
		}
	}
}

// TestShutdownWrite: the far end reads the end of the stream although a copy of the socket is open (P-13).
func TestShutdownWrite(t *testing.T) {
	near, far := tcpPair(t)
	defer near.Close()
	if err := loop.ShutdownWrite(near.Int()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "the end of the stream", func() bool { _, end := readAll(far); return end })
	if err := loop.ShutdownWrite(-1); err != unix.EBADF {
		t.Errorf("of no descriptor: %v", err)
	}
}

func TestSetInt(t *testing.T) {
	near, _ := tcpPair(t)
	defer near.Close()
	if err := loop.SetInt(near.Int(), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 12345); err != nil {
		t.Fatal(err)
	}
	if v, err := unix.GetsockoptInt(near.Int(), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); v != 12345 || err != nil {
		t.Errorf("reads back as %d, %v", v, err)
	}
	if err := loop.SetInt(-1, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1); err != unix.EBADF {
		t.Errorf("of no descriptor: %v", err)
	}
}
