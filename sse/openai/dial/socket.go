package dial

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// Socket is the connection below all TLS. It blocks, as any net.Conn does, until Take moves its descriptor to a loop:
// from then on nothing but Drain waits, Read gives an error for which WouldBlock is true when nothing has come, and what
// the kernel does not take of a Write is kept. crypto/tls goes on after such an error, as it is a temporary one.
type Socket struct {
	net.Conn // immutable; closed by Take

	taken atomic.Bool

	mu       sync.Mutex
	fd       int       // guarded by mu: lent by the loop, or the number of owned; -1: gone
	owned    loop.FD   // guarded by mu: given back by the loop
	closed   bool      // guarded by mu
	kept     []byte    // guarded by mu: what the kernel has not taken, in order
	broken   error     // guarded by mu: why it takes no more
	deadline time.Time // guarded by mu: of Drain; zero: none
}

// NewSocket makes a Socket of a connection with a descriptor, and takes it.
func NewSocket(c net.Conn) *Socket { return &Socket{Conn: c, fd: -1} }

// wouldBlock is what Read says when nothing has come. It is a net.Error.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "dial: nothing has come" }
func (wouldBlock) Timeout() bool   { return false }
func (wouldBlock) Temporary() bool { return true }

// WouldBlock reports whether err is that of a Read that found nothing.
func WouldBlock(err error) bool { return errors.As(err, new(wouldBlock)) }

// Take gives the descriptor for a loop to watch; the caller owns it until Retire or GiveBack. There must be no Read or
// Write under way. On an error the Socket is as it was.
func (s *Socket) Take() (loop.FD, error) {
	sc, ok := s.Conn.(syscall.Conn)
	if !ok {
		return loop.FD{}, errors.New("dial: a connection without a descriptor")
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return loop.FD{}, err
	}
	number, dupErr := -1, error(nil)
	// A duplicate, since the runtime watches its own, with an epoll of its own.
	err = rc.Control(func(fd uintptr) { number, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if err = errors.Join(err, dupErr); err != nil {
		return loop.FD{}, err
	}
	_ = s.Conn.Close() // leaves the runtime's epoll
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fd = number
	s.taken.Store(true)
	return loop.OwnFD(number), nil
}

// Forget is called before the loop closes the descriptor. Loop goroutine only.
func (s *Socket) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fd = -1
}

// GiveBack returns a descriptor that no loop watches any more: Close closes it. Loop goroutine only.
func (s *Socket) GiveBack(fd loop.FD) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = fd
	if s.closed {
		s.fd = -1
		_ = s.owned.Close()
	}
}

// Read reads what there is. After Take: loop goroutine only.
func (s *Socket) Read(b []byte) (int, error) {
	if !s.taken.Load() {
		return s.Conn.Read(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.fd < 0 {
		return 0, net.ErrClosed
	}
	n, err := loop.Recv(s.fd, b)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, wouldBlock{}
	case err == nil && n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return n, err
}

// Write takes all of b or fails. Any goroutine.
func (s *Socket) Write(b []byte) (int, error) {
	if !s.taken.Load() {
		return s.Conn.Write(b)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed || s.fd < 0:
		return 0, net.ErrClosed
	case s.broken != nil:
		return 0, s.broken
	}
	if len(s.kept) == 0 {
		n, err := s.send(b)
		if err != nil {
			return n, err
		}
		if n == len(b) {
			return n, nil
		}
		s.kept = append(s.kept, b[n:]...)
		return len(b), nil
	}
	s.kept = append(s.kept, b...)
	return len(b), nil
}

// send offers b until the kernel takes no more. mu is held.
func (s *Socket) send(b []byte) (sent int, err error) {
	for s.broken == nil && sent < len(b) {
		n, err := loop.Send(s.fd, b[sent:])
		if errors.Is(err, unix.EAGAIN) {
			return sent, nil
		}
		sent, s.broken = sent+n, err
	}
	return sent, s.broken
}

// The pauses of Drain, which has nobody to wake it: an upstream that does not read its requests is rare.
const (
	drainPauseMin = time.Millisecond
	drainPauseMax = 20 * time.Millisecond
)

// Drain waits until the kernel has taken what Write kept, or until the deadline. Not on a loop.
func (s *Socket) Drain() error {
	for pause := drainPauseMin; ; pause = min(2*pause, drainPauseMax) {
		if done, err := s.drain(); done || err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

func (s *Socket) drain() (done bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.kept) == 0:
		return true, nil
	case s.closed || s.fd < 0:
		return false, net.ErrClosed
	}
	n, err := s.send(s.kept)
	if s.kept = s.kept[n:]; len(s.kept) == 0 {
		s.kept = nil
	}
	switch {
	case err != nil || s.kept == nil:
		return true, err
	case !s.deadline.IsZero() && time.Now().After(s.deadline):
		s.broken = errors.New("dial: write timeout")
		return false, s.broken
	}
	return false, nil
}

// Kept reports whether bytes wait for Drain, and may still go. Any goroutine.
func (s *Socket) Kept() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept) > 0 && s.broken == nil && !s.closed && s.fd >= 0
}

// SetWriteDeadline bounds Drain, also one that is under way; before Take, Write.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	if !s.taken.Load() {
		return s.Conn.SetWriteDeadline(t)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline = t
	return nil
}

// Close ends both directions: the loop that watches the descriptor reads the end, and closes it. Any goroutine; twice is
// safe.
func (s *Socket) Close() error {
	if !s.taken.Load() {
		return s.Conn.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.fd < 0 {
		return nil
	}
	_ = unix.Shutdown(s.fd, unix.SHUT_RDWR) // ENOTCONN: the far end has reset it
	if s.owned.Valid() {
		s.fd = -1
		return s.owned.Close()
	}
	return nil
}

// Bottom is the Socket below every layer of TLS of a connection that Dial made.
func Bottom(c net.Conn) *Socket {
	for {
		switch layer := c.(type) {
		case *Socket:
			return layer
		case *tls.Conn:
			c = layer.NetConn()
		default:
			panic(fmt.Sprintf("dial: no Socket below a %T", c))
		}
	}
}
