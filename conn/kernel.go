package conn

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// notSentLowat is TCP_NOTSENT_LOWAT in bytes: see the package comment.
const notSentLowat = 16 << 10

// Kernel is every syscall that a Conn makes. Config.Kernel replaces it to simulate a million clients without
// descriptors, or to inject short writes and errors. Methods are called on a shard's loop and must not block; errors
// are unix.Errno values, EAGAIN as in send(2) and recv(2).
type Kernel interface {
	// Setup sets the socket options of a TCP client socket.
	Setup(fd int, writeTimeout time.Duration) error
	// Attach and Retire register with and leave the loop: loop.Source says who owns fd.
	Attach(s *loop.Source, l *loop.Loop, fd loop.FD, h loop.Handler) error
	Retire(s *loop.Source)
	Send(fd int, b []byte) (int, error)
	Sendv(fd int, pieces [][]byte) (int, error)
	Recv(fd int, b []byte) (int, error)
	ShutdownWrite(fd int) error
	// Reset makes the coming close send a reset and drop what the kernel holds for the client.
	Reset(fd int)
}

// linux is the real Kernel.
type linux struct{}

func (linux) Setup(fd int, writeTimeout time.Duration) error {
	if err := loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, notSentLowat); err != nil {
		return fmt.Errorf("conn: setsockopt TCP_NOTSENT_LOWAT: %w", err)
	}
	ms := min(max(1, writeTimeout.Milliseconds()), math.MaxInt32) // 0 would be the kernel's default; a larger one EINVAL
	if err := loop.SetInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(ms)); err != nil {
		return fmt.Errorf("conn: setsockopt TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}

func (linux) Attach(s *loop.Source, l *loop.Loop, fd loop.FD, h loop.Handler) error {
	return s.Attach(l, fd, h)
}
func (linux) Retire(s *loop.Source)                      { s.Retire() }
func (linux) Send(fd int, b []byte) (int, error)         { return loop.Send(fd, b) }
func (linux) Sendv(fd int, pieces [][]byte) (int, error) { return loop.Sendv(fd, pieces) }
func (linux) Recv(fd int, b []byte) (int, error)         { return loop.Recv(fd, b) }
func (linux) ShutdownWrite(fd int) error                 { return loop.ShutdownWrite(fd) }

// Reset cannot fail on an open socket; were it to, the client would see an orderly end instead.
func (linux) Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
