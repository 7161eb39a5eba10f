package fdrecv

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// judgeClient says whether fd can be a client: a connected stream socket. The error wraps ErrNotStreamSocket or
// ErrClientGone. It keeps nothing and closes nothing.
//
// Two calls decide: a datagram socket may be connected, and a stream socket may be listening or not connected yet.
func judgeClient(fd int) (netip.AddrPort, error) {
	switch socketType, errno := socketOption(fd, unix.SO_TYPE); {
	case errno != 0: // ENOTSOCK; EBADF for an O_PATH descriptor
		return netip.AddrPort{}, fmt.Errorf("fdrecv: getsockopt: %w: %w", ErrNotStreamSocket, errno)
	case socketType != unix.SOCK_STREAM:
		return netip.AddrPort{}, fmt.Errorf("fdrecv: socket type %d: %w", socketType, ErrNotStreamSocket)
	}
	var name unix.RawSockaddrAny
	if errno := peerName(fd, &name); errno != 0 {
		// A client that has sent a reset is not connected any more either, but that is its own doing and no fault of
		// the sender's: the pending error tells the two apart.
		if cause, _ := socketOption(fd, unix.SO_ERROR); cause != 0 {
			return netip.AddrPort{}, fmt.Errorf("fdrecv: %w: %w", ErrClientGone, unix.Errno(cause))
		}
		return netip.AddrPort{}, fmt.Errorf("fdrecv: getpeername: %w: %w", ErrNotStreamSocket, errno)
	}
	return addrPort(&name), nil
}

// addrPort reads an IPv4 or IPv6 address; the zero AddrPort for any other family.
func addrPort(name *unix.RawSockaddrAny) netip.AddrPort {
	switch name.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), networkOrder(a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), networkOrder(a.Port))
	}
	return netip.AddrPort{}
}

// networkOrder reads a port that lies in memory in network byte order.
func networkOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(make([]byte, 0, 2), port))
}
