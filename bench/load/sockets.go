package load

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// streamsPerAddress is how many clients share a source address: connect(2) looks for a free port at random and gets
// slow past half of the range of ports (28,232 by default, /proc/sys/net/ipv4/ip_local_port_range).
const streamsPerAddress = 10_000

// slowReceiveBuffer is SO_RCVBUF of slow clients, in bytes: the daemon feels one after kilobytes, as with a far client
// and a small window, and not after the megabytes of loopback.
const slowReceiveBuffer = 4096

// endpoint is the key under which a connecting client waits for its server end: source address and port.
type endpoint uint64

func endpointOf(sa *unix.SockaddrInet4) endpoint {
	a := sa.Addr
	return endpoint(uint64(a[0])<<40 | uint64(a[1])<<32 | uint64(a[2])<<24 | uint64(a[3])<<16 | uint64(sa.Port))
}

// listenTCP opens the socket that the server ends come from, and says where it is.
func listenTCP() (loop.FD, *unix.SockaddrInet4, error) {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return loop.FD{}, nil, fmt.Errorf("load: socket: %w", err)
	}
	fd := loop.OwnFD(n)
	err = unix.Bind(n, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	if err == nil {
		err = unix.Listen(n, 4096)
	}
	var sa unix.Sockaddr
	if err == nil {
		sa, err = unix.Getsockname(n)
	}
	if err != nil {
		_ = fd.Close()
		return loop.FD{}, nil, fmt.Errorf("load: listen on 127.0.0.1: %w", err)
	}
	return fd, sa.(*unix.SockaddrInet4), nil
}

// connectTCP begins a connection from the source address (127.0.x.1) and says under which endpoint its server end will
// be accepted. On loopback it stands when this returns, or a moment later.
func connectTCP(source, to *unix.SockaddrInet4, receiveBuffer int) (loop.FD, endpoint, error) {
	n, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return loop.FD{}, 0, fmt.Errorf("load: socket: %w", err)
	}
	fd := loop.OwnFD(n)
	var at endpoint
	err = func() error {
		if receiveBuffer > 0 { // before connect: it decides the window
			if err := loop.SetInt(n, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
				return err
			}
		}
		// The port is chosen at connect, where only the whole tuple must be free, and not at bind.
		if err := loop.SetInt(n, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(n, source); err != nil {
			return err
		}
		if err := unix.Connect(n, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		sa, err := unix.Getsockname(n)
		if err != nil {
			return err
		}
		at = endpointOf(sa.(*unix.SockaddrInet4))
		return nil
	}()
	if err != nil {
		_ = fd.Close()
		return loop.FD{}, 0, fmt.Errorf("load: connect from %v: %w", source.Addr, err)
	}
	return fd, at, nil
}

// acceptTCP takes one server end and makes it what the web server hands over (P-05): non-blocking, TCP_NODELAY,
// SO_KEEPALIVE. EAGAIN: there is none.
func acceptTCP(listener int) (loop.FD, endpoint, error) {
	n, sa, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return loop.FD{}, 0, err
	}
	fd := loop.OwnFD(n)
	if err = loop.SetInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err == nil {
		err = loop.SetInt(n, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	}
	if err != nil {
		_ = fd.Close()
		return loop.FD{}, 0, fmt.Errorf("load: setsockopt: %w", err)
	}
	return fd, endpointOf(sa.(*unix.SockaddrInet4)), nil
}

// socketPair makes a client without TCP.
func socketPair(receiveBuffer int) (client, server loop.FD, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return loop.FD{}, loop.FD{}, fmt.Errorf("load: socketpair: %w", err)
	}
	client, server = loop.OwnFD(pair[0]), loop.OwnFD(pair[1])
	if receiveBuffer > 0 { // a Unix socket is bounded by what the sender may have under way
		if err := loop.SetInt(pair[1], unix.SOL_SOCKET, unix.SO_SNDBUF, receiveBuffer); err != nil {
			return client, server, errors.Join(err, client.Close(), server.Close())
		}
	}
	return client, server, nil
}
