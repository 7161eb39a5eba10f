package h1

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
)

// addresses are those of the target, the one to try first in front. Shared and immutable; empty for a Unix socket.
type addresses []netip.AddrPort

// connect begins to connect, with the first of c.addrs that the kernel does not refuse at once. Called from Start, from
// a timer and from callbacks: what fails is told later.
func (c *conn) connect() {
	for {
		err := c.tryConnect()
		if err == nil {
			return
		}
		if len(c.addrs) < 2 {
			c.failLater(fmt.Errorf("%w: %w", upstream.ErrConnect, err))
			return
		}
		c.addrs, c.rerouted = c.addrs[1:], true
	}
}

// tryConnect tries the first address. An error leaves the state as it was and no descriptor.
func (c *conn) tryConnect() error {
	address := c.address()
	if !c.spare.Valid() {
		fd, err := openSocket(address)
		if err != nil {
			return err
		}
		c.spare = fd
		c.sh.counts.dials.Add(1)
	}
	err := unix.Connect(c.spare.Int(), address)
	switch {
	case err == nil, errors.Is(err, unix.EISCONN):
		if c.attach() {
			c.up()
		}
	case errors.Is(err, unix.EINPROGRESS), errors.Is(err, unix.EINTR): // EINTR: it goes on by itself (connect(2))
		if c.attach() {
			c.to(stateConnecting)
			c.want(true)
		}
	case errors.Is(err, unix.EAGAIN) && len(c.addrs) == 0: // unix(7): the backlog of a Unix listener is full
		if c.state != stateQueued {
			c.to(stateQueued)
		}
	default:
		_ = c.spare.Close()
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// up sends the request on a new connection.
func (c *conn) up() {
	if c.rerouted {
		c.sh.t.names.prefer(c.addrs[0])
	}
	c.addrs = nil
	c.to(stateSending)
	c.send()
}

// connectAgain is the next attempt at a Unix socket with a full backlog. The list's timer calls it.
func (c *conn) connectAgain() {
	if c.sh.loop.Now()-c.begun >= c.sh.t.cfg.ConnectTimeout {
		c.fail(fmt.Errorf("%w: the backlog is full", upstream.ErrConnectTimeout))
		return
	}
	c.sh.queued.remove(c) // to its end: it may stay queued, and the state would not change
	c.sh.queued.push(c)
	c.connect()
}

// connected: the kernel has decided about the connection.
func (c *conn) connected() {
	cause, err := unix.GetsockoptInt(c.source.FD(), unix.SOL_SOCKET, unix.SO_ERROR)
	switch {
	case err != nil:
		c.reroute(fmt.Errorf("%w: %w", upstream.ErrConnect, err))
	case cause != 0:
		c.reroute(fmt.Errorf("%w: %w", upstream.ErrConnect, unix.Errno(cause)))
	default:
		c.want(false)
		c.up()
	}
}

// connectTimedOut is called by the list's timer.
func (c *conn) connectTimedOut() { c.reroute(upstream.ErrConnectTimeout) }

// reroute gives the call a connection to the next address, on a descriptor of its own; without one the call fails.
func (c *conn) reroute(err error) {
	call, sh, next := c.call, c.sh, c.addrs
	if len(next) < 2 {
		c.fail(err)
		return
	}
	c.close()
	sh.connect(call, next[1:], true)
}

// address is where to connect to. Each is made for one call: package unix writes into it.
func (c *conn) address() unix.Sockaddr {
	if path := c.sh.t.cfg.Target.Socket; path != "" {
		return &unix.SockaddrUnix{Name: path}
	}
	to := c.addrs[0]
	if to.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// openSocket makes the socket for an address. The caller owns it.
func openSocket(address unix.Sockaddr) (loop.FD, error) {
	domain := unix.AF_INET
	switch address.(type) {
	case *unix.SockaddrUnix:
		domain = unix.AF_UNIX
	case *unix.SockaddrInet6:
		domain = unix.AF_INET6
	}
	n, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return loop.FD{}, fmt.Errorf("socket: %w", err)
	}
	if domain != unix.AF_UNIX {
		// The last, short segment of a long prompt must not wait for an acknowledgement.
		_ = loop.SetInt(n, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		// Before connect, as it bounds the window that is offered: left to itself, the kernel lets a call that a slow
		// client has paused grow to 1 MB (seen), and a thousand of them stall all TCP of the machine at tcp_mem.
		_ = loop.SetInt(n, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	return loop.OwnFD(n), nil
}

// receiveBuffer is SO_RCVBUF of a call's socket, in bytes; the kernel doubles it for its own bookkeeping (socket(7)).
const receiveBuffer = 64 << 10
