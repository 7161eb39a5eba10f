package fdtest

import (
	"net"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// TCPPair gives the two ends of a TCP connection over loopback: server is what a web server would hand over (blocking,
// close-on-exec, no option set), client is the far end. The caller owns server; client is closed at the end of the
// test at the latest.
func TCPPair(t testing.TB) (server loop.FD, client *net.TCPConn) {
	t.Helper()
	return tcpPair(t, unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}, "tcp4")
}

// TCP6Pair is TCPPair over ::1. ok is false on a machine without IPv6.
func TCP6Pair(t testing.TB) (server loop.FD, client *net.TCPConn, ok bool) {
	t.Helper()
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		return loop.FD{}, nil, false
	}
	_ = probe.Close()
	server, client = tcpPair(t, unix.AF_INET6, &unix.SockaddrInet6{Addr: [16]byte{15: 1}}, "tcp6")
	return server, client, true
}

func tcpPair(t testing.TB, domain int, address unix.Sockaddr, network string) (loop.FD, *net.TCPConn) {
	t.Helper()
	n, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	listener := loop.OwnFD(n)
	defer listener.Close()
	if err := unix.Bind(n, address); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(n, 1); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(n)
	if err != nil {
		t.Fatal(err)
	}
	to := &net.TCPAddr{}
	switch a := bound.(type) {
	case *unix.SockaddrInet4:
		to.IP, to.Port = a.Addr[:], a.Port
	case *unix.SockaddrInet6:
		to.IP, to.Port = a.Addr[:], a.Port
	}
	client, err := net.DialTCP(network, nil, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	server, _, err := unix.Accept4(n, unix.SOCK_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	return loop.OwnFD(server), client
}

// SocketPair gives a connected pair of Unix sockets of the type (unix.SOCK_STREAM, …), blocking and close-on-exec. The
// caller owns both.
func SocketPair(t testing.TB, socketType int) (a, b loop.FD) {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, socketType|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return loop.OwnFD(pair[0]), loop.OwnFD(pair[1])
}

// Dial connects a new blocking Unix socket of the type to path. The caller owns it.
func Dial(t testing.TB, path string, socketType int) loop.FD {
	t.Helper()
	n, err := unix.Socket(unix.AF_UNIX, socketType|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := loop.OwnFD(n)
	if err := unix.Connect(n, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = fd.Close()
		t.Fatalf("connect %s: %v", path, err)
	}
	return fd
}

// SendFDs sends data, which may be empty, with any number of descriptors, all in one control message, over the Unix
// socket conn. The caller keeps all of them.
func SendFDs(t testing.TB, conn int, data []byte, fds ...int) {
	t.Helper()
	// Not unix.Sendmsg: it adds a byte to an empty message.
	var iov unix.Iovec
	msg := unix.Msghdr{Iov: &iov}
	msg.SetIovlen(1)
	if len(data) > 0 {
		iov.Base = &data[0]
		iov.SetLen(len(data))
	}
	if len(fds) > 0 {
		control := unix.UnixRights(fds...)
		msg.Control = &control[0]
		msg.SetControllen(len(control))
	}
	_, _, errno := unix.Syscall(unix.SYS_SENDMSG, uintptr(conn), uintptr(unsafe.Pointer(&msg)), unix.MSG_NOSIGNAL)
	if errno != 0 {
		t.Fatalf("sendmsg with %d bytes and %d descriptors: %v", len(data), len(fds), errno)
	}
}
