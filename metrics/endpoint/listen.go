package endpoint

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Listen opens a TCP listener on addr (host:port; port 0 picks a free one), the value of a flag. An error is one line that
// names the package that asks, the flag, the address and the mend, with example for a good address, and wraps the cause
// (syscall.EADDRINUSE, …); nothing is left open then. An empty addr is an error: it would listen on every interface, on
// any port. Any goroutine.
func Listen(name, flag, addr, example string) (net.Listener, error) {
	if addr == "" {
		return nil, fmt.Errorf("%s: %s is empty: give host:port, such as %s", name, flag, example)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %s %q: %w: %s", name, flag, addr, err, mend(err, example))
	}
	return ln, nil
}

// mend says what to do about a failed bind.
func mend(err error, example string) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process listens there: stop it, or choose another port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface of this machine has that address: use 127.0.0.1 or one that it has"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "raise the limit on open files (LimitNOFILE, ulimit -n)"
	default:
		return "give host:port, such as " + example
	}
}

// slotListener accepts only with a slot in hand; with the connection the slot passes to it. Waiting here leaves clients
// in the kernel's backlog, where they cost no descriptor.
type slotListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener; Close wakes it while it waits for a slot.
func (l *slotListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return c, err
}

// Close implements net.Listener; twice is safe.
func (l *slotListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
