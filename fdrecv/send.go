package fdrecv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// ErrPayloadOnFDPass: KindFDPass carries no payload.
var ErrPayloadOnFDPass = errors.New("fdrecv: fdpass carries no payload")

// Send hands the client socket over to the listener at path as Apache's module for that kind does, and returns once
// the kernel has it all: there is no answer to wait for (P-01). It connects anew for each handoff and closes. The
// caller keeps client and should close its copy. A nil or empty payload is sent as one NUL byte.
//
// It blocks for up to timeout, for the send and, with KindFDPass alone, for a place in the backlog; the other kinds
// get EAGAIN at once when that is full. Errors wrap the errno: ENOENT and ECONNREFUSED (nobody listens), EAGAIN
// (backlog full), EPROTOTYPE (listener of another type), EMSGSIZE (payload too large for a message), EPIPE or
// ECONNRESET (refused by the receiver), ETIMEDOUT. Any goroutine.
func Send(path string, kind Kind, client int, payload []byte, timeout time.Duration) error {
	s, err := NewSender(path, kind)
	if err != nil {
		return err
	}
	return s.Send(client, payload, timeout)
}

// Sender is Send for many handoffs to one path: it allocates once. One goroutine at a time.
type Sender struct {
	path    string
	kind    Kind
	address unix.RawSockaddrUnix
	length  uint32 // of address, in bytes

	control [unix.SizeofCmsghdr + 8]byte // CMSG_SPACE of one descriptor
	iov     unix.Iovec
	msg     unix.Msghdr
}

// noPayload is what stands for no payload: a message needs a byte to carry a descriptor. Never written.
var noPayload = []byte{0}

// NewSender makes a Sender. It holds no descriptor.
func NewSender(path string, kind Kind) (*Sender, error) {
	if len(path) == 0 || len(path) > pathMax {
		return nil, fmt.Errorf("fdrecv: path %q has %d bytes, and the kernel takes 1 to %d: %w", path, len(path), pathMax,
			unix.EINVAL)
	}
	if kind >= numKinds {
		return nil, fmt.Errorf("fdrecv: kind %d: %w", kind, unix.EINVAL)
	}
	s := &Sender{path: path, kind: kind}
	s.address.Family = unix.AF_UNIX
	for i := range len(path) {
		s.address.Path[i] = int8(path[i])
	}
	s.length = uint32(unsafe.Offsetof(s.address.Path)) + uint32(len(path)) + 1
	binary.NativeEndian.PutUint64(s.control[0:], unix.SizeofCmsghdr+4)
	binary.NativeEndian.PutUint32(s.control[8:], unix.SOL_SOCKET)
	binary.NativeEndian.PutUint32(s.control[12:], unix.SCM_RIGHTS)
	s.msg.Iov = &s.iov
	s.msg.SetIovlen(1)
	s.msg.Control = &s.control[0]
	s.msg.SetControllen(len(s.control))
	return s, nil
}

// Send is the function Send.
func (s *Sender) Send(client int, payload []byte, timeout time.Duration) error {
	if s.kind == KindFDPass && len(payload) > 0 {
		return ErrPayloadOnFDPass
	}
	deadline := time.Now().Add(timeout)
	conn, err := s.connect(timeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	for {
		rest, err := s.SendOn(conn.Int(), client, payload)
		if errors.Is(err, unix.EAGAIN) { // nothing was taken, the descriptor neither
			if err = s.await(conn.Int(), deadline); err == nil {
				continue
			}
		}
		if err != nil {
			return err
		}
		return s.sendRest(conn.Int(), rest, deadline)
	}
}

// Connect opens a handoff socket without waiting: EAGAIN means that the backlog is full. The caller owns it. For who
// drives many from one goroutine, together with SendOn and loop.Send.
func (s *Sender) Connect() (loop.FD, error) {
	return s.dial(0)
}

// connect waits for a place in the backlog if the module for the kind does.
func (s *Sender) connect(timeout time.Duration) (loop.FD, error) {
	if s.kind == KindFDPass {
		return s.dial(max(timeout, time.Microsecond)) // SO_SNDTIMEO: 0 would be for ever
	}
	return s.dial(0)
}

// dial connects; a timeout above 0 lets it wait that long for a place in the backlog, on the calling thread.
func (s *Sender) dial(timeout time.Duration) (loop.FD, error) {
	flags := s.kind.socketType() | unix.SOCK_CLOEXEC
	if timeout == 0 {
		flags |= unix.SOCK_NONBLOCK
	}
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_UNIX, uintptr(flags), 0)
	if errno != 0 {
		return loop.FD{}, s.failed("socket", errno)
	}
	fd := loop.OwnFD(int(n))
	if timeout == 0 {
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, n, uintptr(unsafe.Pointer(&s.address)), uintptr(s.length))
	} else {
		patience := unix.NsecToTimeval(timeout.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd.Int(), unix.SOL_SOCKET, unix.SO_SNDTIMEO, &patience); err != nil {
			_ = fd.Close()
			return loop.FD{}, s.failed("setsockopt", err)
		}
		for { // interrupted is not connected, on a Unix socket: again
			_, _, errno = unix.Syscall(unix.SYS_CONNECT, n, uintptr(unsafe.Pointer(&s.address)), uintptr(s.length))
			if errno != unix.EINTR {
				break
			}
		}
	}
	if errno != 0 {
		_ = fd.Close()
		return loop.FD{}, s.failed("connect", errno)
	}
	return fd, nil
}

// SendOn sends the descriptor with the first piece of the payload over a connected handoff socket, without blocking.
// With KindStream the kernel may take less than all: rest is what the caller still has to send (loop.Send) before it
// closes conn, which is how the receiver learns of the end. EAGAIN means that nothing was taken. The caller keeps
// both descriptors.
func (s *Sender) SendOn(conn, client int, payload []byte) (rest []byte, err error) {
	if len(payload) == 0 {
		payload = noPayload
	}
	binary.NativeEndian.PutUint32(s.control[16:], uint32(client))
	s.iov.Base = &payload[0]
	s.iov.SetLen(len(payload))
	n, errno := sendmsg(conn, &s.msg)
	s.iov.Base = nil // the payload is the caller's again
	if errno != 0 {
		return payload, s.failed("sendmsg", errno)
	}
	return payload[n:], nil
}

// sendRest sends what SendOn left.
func (s *Sender) sendRest(conn int, rest []byte, deadline time.Time) error {
	for len(rest) > 0 {
		n, err := loop.Send(conn, rest)
		rest = rest[n:]
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := s.await(conn, deadline); err != nil {
				return err
			}
		case err != nil:
			return s.failed("send", err)
		}
	}
	return nil
}

// await waits until conn takes bytes again. ETIMEDOUT: not before the deadline.
func (s *Sender) await(conn int, deadline time.Time) error {
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return s.failed("send", unix.ETIMEDOUT)
		}
		fds := [1]unix.PollFd{{Fd: int32(conn), Events: unix.POLLOUT}}
		n, err := unix.Poll(fds[:], int(left/time.Millisecond)+1)
		if n > 0 {
			return nil // the send says what it is
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return s.failed("poll", err)
		}
	}
}

func (s *Sender) failed(call string, err error) error {
	return fmt.Errorf("fdrecv: %s to %s: %w", call, s.path, err)
}
