package upgrade

import (
	"fmt"
	"net"
	"sync"
	"syscall"
)

// Gate makes a listener whose Accept waits until open is closed. Until then connects stay in the kernel's backlog, for
// whoever else accepts there. It takes ln.
func Gate(ln net.Listener, open <-chan struct{}) net.Listener {
	return &gate{Listener: ln, open: open, closed: make(chan struct{})}
}

type gate struct {
	net.Listener
	open   <-chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener; Close wakes it.
func (g *gate) Accept() (net.Conn, error) {
	select {
	case <-g.open:
		return g.Listener.Accept()
	case <-g.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; twice is safe.
func (g *gate) Close() error {
	g.once.Do(func() { close(g.closed) })
	return g.Listener.Close()
}

// SyscallConn implements syscall.Conn.
func (g *gate) SyscallConn() (syscall.RawConn, error) {
	if c, ok := g.Listener.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, fmt.Errorf("upgrade: %T has no descriptor", g.Listener)
}
