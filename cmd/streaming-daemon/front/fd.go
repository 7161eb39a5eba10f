package front

import (
	"fmt"
	"net"
	"syscall"
)

// sendConn calls Send with the descriptor of conn itself. (*net.TCPConn).File would give a duplicate, to be closed on
// every path, for nothing. Control holds a reference to the descriptor while Send runs, so that its number cannot be
// closed and given to another client meanwhile.
func (s *Server) sendConn(conn net.Conn, payload []byte) error {
	raw, err := conn.(syscall.Conn).SyscallConn() // a *net.TCPConn: our listener is TCP
	if err != nil {
		return fmt.Errorf("front: raw connection: %w", err)
	}
	var sendErr error
	if err := raw.Control(func(fd uintptr) { sendErr = s.send(int(fd), payload) }); err != nil {
		return fmt.Errorf("front: descriptor: %w", err)
	}
	return sendErr
}
