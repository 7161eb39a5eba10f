package dial_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/dial"
)

// taken gives a Socket after Take, the descriptor that it gave, and the far end. The test ends both.
func taken(t *testing.T) (*dial.Socket, loop.FD, net.Conn) {
	t.Helper()
	a, b := fdtest.SocketPair(t, unix.SOCK_STREAM)
	conn := func(fd loop.FD) net.Conn {
		file := os.NewFile(uintptr(fd.Release()), "pair")
		defer file.Close()
		c, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	s, far := dial.NewSocket(conn(a)), conn(b)
	t.Cleanup(func() { _ = far.Close() })
	fd, err := s.Take()
	if err != nil {
		t.Fatal(err)
	}
	return s, fd, far
}

// TestSocketNeverBlocks: a Read that finds nothing says so at once, by a temporary error; a Write takes all, and what the
// kernel did not take goes with Drain, in order.
func TestSocketNeverBlocks(t *testing.T) {
	fdtest.NoLeaks(t)
	s, fd, far := taken(t)
	var buf [64]byte
	n, err := s.Read(buf[:])
	var temporary net.Error
	if n != 0 || !dial.WouldBlock(err) || !errors.As(err, &temporary) || !temporary.Temporary() {
		t.Errorf("an empty socket: %d, %v", n, err)
	}
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(buf[:]); err != nil || string(buf[:n]) != "hello" {
		t.Errorf("read %q, %v", buf[:n], err)
	}

	sent := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB: more than the kernel holds
	for part := range 4 {
		part := sent[part*len(sent)/4 : (part+1)*len(sent)/4]
		if n, err := s.Write(part); n != len(part) || err != nil {
			t.Fatalf("wrote %d: %v", n, err)
		}
	}
	if !s.Kept() {
		t.Fatal("the kernel took a MiB: nothing is tested")
	}
	got := make(chan []byte, 1)
	go func() {
		b, _ := io.ReadAll(far)
		got <- b
	}()
	if err := s.Drain(); err != nil || s.Kept() {
		t.Errorf("drained: %v", err)
	}
	s.Forget()
	_ = fd.Close()
	if b := <-got; !bytes.Equal(b, sent) {
		t.Errorf("%d bytes came, of %d, or others", len(b), len(sent))
	}
}

// TestSocketDrainTimeout: the deadline ends a Drain, also when it is set while one is under way.
func TestSocketDrainTimeout(t *testing.T) {
	fdtest.NoLeaks(t)
	s, fd, _ := taken(t)
	_, _ = s.Write(make([]byte, 1<<20))
	over := make(chan error, 1)
	go func() { over <- s.Drain() }()
	_ = s.SetWriteDeadline(time.Now())
	select {
	case err := <-over:
		if err == nil || s.Kept() {
			t.Errorf("%v, kept: %v", err, s.Kept())
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Drain waits past its deadline")
	}
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("a Write after it is taken")
	}
	s.Forget()
	_ = fd.Close()
}

// TestSocketClose: Close ends both directions at once, and closes the descriptor when no loop has it, whichever comes
// first.
func TestSocketClose(t *testing.T) {
	for name, giveBackFirst := range map[string]bool{"given back before": true, "given back after": false} {
		t.Run(name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s, fd, far := taken(t)
			if giveBackFirst {
				s.GiveBack(fd)
			}
			_, _ = s.Close(), s.Close()
			if n, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the far end reads %d, %v", n, err)
			}
			if _, err := s.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Read: %v", err)
			}
			if _, err := s.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("Write: %v", err)
			}
			if !giveBackFirst {
				s.GiveBack(fd)
			}
		})
	}
}
