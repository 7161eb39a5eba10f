package fdrecv

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// None of these calls can block, so they go straight to the kernel without telling the runtime (see loop). Each gives
// 0 or the errno; EINTR is retried.

// accept takes a connection from a non-blocking listener, non-blocking and close-on-exec.
func accept(listener int) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0,
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// recvmsg receives one message or piece into what msg points to, with flags beside the usual ones; descriptors are
// close-on-exec from the start.
func recvmsg(fd int, msg *unix.Msghdr, flags uintptr) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)),
			unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC|flags)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// sendmsg sends without blocking and without SIGPIPE.
func sendmsg(fd int, msg *unix.Msghdr) (int, unix.Errno) {
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(msg)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}

// hasRoom reports whether the descriptor table had room for one more just now.
func hasRoom(fd int) bool {
	n, _, errno := unix.RawSyscall(unix.SYS_FCNTL, uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if errno == 0 {
		_ = unix.Close(int(n))
	}
	return errno == 0
}

// socketOption reads an int option of SOL_SOCKET.
func socketOption(fd, option int) (int, unix.Errno) {
	var value int32
	size := uint32(unsafe.Sizeof(value))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, uintptr(option),
		uintptr(unsafe.Pointer(&value)), uintptr(unsafe.Pointer(&size)), 0)
	return int(value), errno
}

// peerCredentials is SO_PEERCRED: who connected, as of then.
func peerCredentials(fd int) (unix.Ucred, unix.Errno) {
	var peer unix.Ucred
	size := uint32(unsafe.Sizeof(peer))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERCRED,
		uintptr(unsafe.Pointer(&peer)), uintptr(unsafe.Pointer(&size)), 0)
	return peer, errno
}

// peerName is getpeername(2).
func peerName(fd int, name *unix.RawSockaddrAny) unix.Errno {
	size := uint32(unsafe.Sizeof(*name))
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(name)),
		uintptr(unsafe.Pointer(&size)))
	return errno
}
