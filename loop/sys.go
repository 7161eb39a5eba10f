package loop

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are made on a loop and cannot block (every one carries MSG_DONTWAIT), so they go straight to the
// kernel: the runtime is not told (RawSyscall), which saves the hand-off of the P on each event. Errors are plain
// unix.Errno values, EINTR is retried.

// Recv reads into b without blocking, whatever the descriptor's O_NONBLOCK says: 0, nil is the end of the stream.
// EAGAIN means that nothing is there. Any goroutine.
func Recv(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// Send writes b without blocking and without SIGPIPE and says how much the kernel took: less than len(b) is normal.
// EAGAIN means that it took nothing. Any goroutine.
func Send(fd int, b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// SendvMax is how many pieces Sendv takes at most in one call. The kernel's own limit is IOV_MAX, 1024.
const SendvMax = 64

// Sendv is Send for at most SendvMax pieces in one sendmsg (writev knows no MSG_NOSIGNAL). Any goroutine.
func Sendv(fd int, pieces [][]byte) (int, error) {
	var iov [SendvMax]unix.Iovec
	used := 0
	for _, p := range pieces[:min(len(pieces), SendvMax)] {
		if len(p) == 0 {
			continue
		}
		iov[used].Base = &p[0]
		iov[used].SetLen(len(p))
		used++
	}
	if used == 0 {
		return 0, nil
	}
	msg := unix.Msghdr{Iov: &iov[0]}
	msg.SetIovlen(used)
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// ShutdownWrite ends the write side: the far end reads an end of stream, even while another process holds a copy of
// the socket. Any goroutine.
func ShutdownWrite(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// SetInt is setsockopt(2) with an int value. Any goroutine.
func SetInt(fd, level, option, value int) error {
	v := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(option),
		uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	if errno != 0 {
		return errno
	}
	return nil
}
