package fdrecv

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

const (
	// controlRoom is the control buffer in bytes: 16 descriptors, or 8 beside the credentials that an inherited listener
	// may have switched on (SO_PASSCRED). One is right, yet each of several has to be taken over to be closed: what does
	// not fit is closed by the kernel, with MSG_CTRUNC. (CMSG_SPACE of 8 descriptors: 48; of a struct ucred: 32.)
	controlRoom = 48 + 32
	// fdsMax is how many descriptors fit in controlRoom at most, whatever the headers say.
	fdsMax = (controlRoom - unix.SizeofCmsghdr) / 4
)

// fdSet owns the descriptors of one message. The zero set is empty.
type fdSet struct {
	fds   [fdsMax]loop.FD
	count int
}

// takeFirst gives the first descriptor to the caller; none when the set is empty.
func (s *fdSet) takeFirst() loop.FD {
	first := s.fds[0]
	s.fds[0] = loop.FD{}
	return first
}

// close ends every descriptor that is still in the set, and empties it.
func (s *fdSet) close() {
	for i := range s.count {
		_ = s.fds[i].Close() // a stray: what close(2) reports about it changes nothing
		s.fds[i] = loop.FD{}
	}
	s.count = 0
}

// collect owns every descriptor of every SCM_RIGHTS message in control, which is as recvmsg left it and at most
// controlRoom bytes. All of them are in our table by now: nothing may be judged before this has been called (P-17).
func (s *fdSet) collect(control []byte) {
	eachRight(control, func(fd int32) {
		s.fds[s.count] = loop.OwnFD(int(fd))
		s.count++
	})
}

// eachRight calls f with each descriptor in a buffer of control messages. Bytes that make no sense end the walk: the
// kernel does not write such, and a length that it did write never leads past the buffer.
func eachRight(control []byte, f func(fd int32)) {
	for len(control) >= unix.SizeofCmsghdr {
		// struct cmsghdr on the 64-bit systems that we build for: u64 length (header included), i32 level, i32 type.
		length := binary.NativeEndian.Uint64(control)
		level := int32(binary.NativeEndian.Uint32(control[8:]))
		kind := int32(binary.NativeEndian.Uint32(control[12:]))
		if length < unix.SizeofCmsghdr || length > uint64(len(control)) {
			return
		}
		if level == unix.SOL_SOCKET && kind == unix.SCM_RIGHTS {
			data := control[unix.SizeofCmsghdr:length]
			for ; len(data) >= 4; data = data[4:] {
				if fd := int32(binary.NativeEndian.Uint32(data)); fd >= 0 {
					f(fd)
				}
			}
		}
		next := (length + 7) &^ 7 // CMSG_ALIGN
		if next > uint64(len(control)) {
			return
		}
		control = control[next:]
	}
}

// SizeofCmsghdr is what eachRight assumes; a 32-bit build fails here.
const _ = uint(unix.SizeofCmsghdr-16) + uint(16-unix.SizeofCmsghdr)
