package fdrecv

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

const (
	// PayloadMax is the default of Config.PayloadMax in bytes: the largest message that the kernel lets through at its
	// default socket buffers, net.core.wmem_default - 32 (P-06).
	PayloadMax = 212_960
	// receiveRoom is the receive buffer in bytes. It must hold one byte more than the largest payload, so that one that
	// is too large is seen as such (P-04).
	receiveRoom = 256 << 10
)

const _ = uint(receiveRoom - PayloadMax - 1) // fails to compile unless the default fits

// Buffer is where messages are received, 256 KiB allocated at the first use. The listeners of one loop share one, as
// nothing stays in it from one callback to the next. The zero Buffer is ready. Loop goroutine only.
type Buffer struct {
	bytes   []byte
	control [controlRoom]byte
	iov     unix.Iovec
	msg     unix.Msghdr
}

// receive gets one message or piece into b.bytes[at:at+room] and its descriptors into fds, which must be empty; with nil
// those that come are closed by the kernel.
func (b *Buffer) receive(fd, at, room int, how uintptr, fds *fdSet) (n, flags int, errno unix.Errno) {
	if b.bytes == nil {
		b.bytes = make([]byte, receiveRoom)
		b.msg.Iov = &b.iov
		b.msg.SetIovlen(1)
		b.msg.Control = &b.control[0]
	}
	b.iov.Base = &b.bytes[at]
	b.iov.SetLen(room)
	b.msg.SetControllen(0)
	if fds != nil {
		b.msg.SetControllen(controlRoom)
	}
	b.msg.Flags = 0
	n, errno = recvmsg(fd, &b.msg, how)
	if errno != 0 {
		return 0, 0, errno
	}
	if fds != nil {
		fds.collect(b.control[:b.msg.Controllen])
	}
	return n, int(b.msg.Flags), 0
}

// receiveFirst is receive for the piece that brings the client. It gives EMFILE when the descriptor table has no room
// for that one: nothing was taken then.
//
// recvmsg would take the message all the same and drop the client (P-18), and nothing tells beforehand: the accept may
// have had the last descriptor, and what else runs in this process takes one at any time, a spare that was given up for
// this very call too. So the first look is a peek, which hands out descriptors as well (unix(7) names no difference;
// af_unix.c, unix_peek_fds) and leaves the message where it is. The message is taken with no room for descriptors after
// that, so that they come once. This costs one syscall a handoff: 0.5 µs of 6 (BenchmarkHandoff, the least of six runs
// with and without, on a 2-core virtual machine).
func (b *Buffer) receiveFirst(fd, at int, fds *fdSet) (n, flags int, errno unix.Errno) {
	for range 3 {
		n, flags, errno = b.receive(fd, at, 1, unix.MSG_PEEK, fds)
		if errno != 0 || n == 0 && fds.count == 0 && flags&unix.MSG_CTRUNC == 0 {
			return n, flags, errno
		}
		if fds.count > 0 || flags&unix.MSG_CTRUNC == 0 {
			break
		}
		// A security module may cut off descriptors as well, for good: no room is what a second opinion confirms.
		if !hasRoom(fd) {
			return 0, 0, unix.EMFILE
		}
	}
	cut := flags & unix.MSG_CTRUNC
	if n, flags, errno = b.receive(fd, at, receiveRoom-at, 0, nil); errno != 0 {
		fds.close()
	}
	return n, flags&^unix.MSG_CTRUNC | cut, errno
}

// errNoRoom: the client's descriptor has no room in this process. The handoff waits in its socket.
var errNoRoom = errors.New("no room for a client's descriptor")

// incoming is what has come of one handoff.
type incoming struct {
	client     loop.FD        // held from the moment at which a usable one has come
	clientAddr netip.AddrPort // of client
	arrived    bool           // true exactly when a descriptor has come, usable or not
	own        bool           // data is memory of its own; otherwise it lies in the Buffer
	data       []byte
	acceptedAt time.Duration
}

// receive takes what the handoff socket fd has to give. done: the handoff has ended, with err or complete; otherwise
// the rest has not come yet, or with errNoRoom alone: it is there and was not taken. It reads to EAGAIN or the end,
// because after a hangup nobody would call again. That is bounded: each pass brings at least a byte of at most
// payloadMax. Any other err wraps a sentinel.
//
// On SOCK_SEQPACKET an end is believed only when it is found twice: a non-blocking recvmsg looks at the queue first and
// at the far end after that, so one that sends and closes between the two looks is reported as an end with its message
// in the queue (af_unix.c, unix_dgram_recvmsg; seen 87 times in 300,000 handoffs to a spinning receiver, Linux 6.18).
func (in *incoming) receive(fd int, kind Kind, payloadMax int, b *Buffer) (done bool, err error) {
	ends := 0
	for {
		at := len(in.data)
		if in.own {
			at = 0
		}
		var fds fdSet
		var n, flags int
		var errno unix.Errno
		if in.arrived {
			n, flags, errno = b.receive(fd, at, receiveRoom-at, 0, &fds)
		} else {
			n, flags, errno = b.receiveFirst(fd, at, &fds)
		}
		switch {
		case errno == unix.EAGAIN:
			return false, nil
		case errno == unix.EMFILE:
			return false, errNoRoom
		case errno != 0:
			return true, in.broken(errno)
		case n == 0 && fds.count == 0 && flags&unix.MSG_CTRUNC == 0:
			if ends++; kind == KindSeqpacket && ends == 1 {
				continue
			}
			return true, in.ended()
		}
		// An empty message with a descriptor is no end: SOCK_SEQPACKET can carry one.
		if in.own {
			in.data = append(in.data, b.bytes[:n]...)
		} else {
			in.data = b.bytes[:at+n]
		}
		if err := in.takeFDs(&fds, flags); err != nil {
			return true, err
		}
		if flags&unix.MSG_TRUNC != 0 || len(in.data) > payloadMax {
			return true, fmt.Errorf("fdrecv: more than %d bytes: %w", payloadMax, ErrTooLarge)
		}
		if kind != KindStream {
			return true, nil
		}
	}
}

// takeFDs judges the descriptors of one message or piece. All but the client socket are closed.
func (in *incoming) takeFDs(fds *fdSet, flags int) error {
	defer fds.close()
	count, cut := fds.count, flags&unix.MSG_CTRUNC != 0
	if in.arrived {
		switch {
		case cut:
			return fmt.Errorf("fdrecv: in a later piece: %w", ErrTruncatedControl)
		case count > 0:
			return fmt.Errorf("fdrecv: in a later piece: %w", ErrExtraFD)
		}
		return nil
	}
	if count == 0 {
		if cut { // the sender did send one, and it is lost (P-18)
			return fmt.Errorf("fdrecv: no room for a descriptor: %w", ErrTruncatedControl)
		}
		return fmt.Errorf("fdrecv: %w", ErrNoFD)
	}
	in.arrived = true
	client := fds.takeFirst()
	address, err := judgeClient(client.Int())
	if err != nil {
		_ = client.Close()
		return err
	}
	in.client, in.clientAddr = client, address
	switch {
	case cut:
		return fmt.Errorf("fdrecv: %d came: %w", count, ErrTruncatedControl)
	case count > 1:
		return fmt.Errorf("fdrecv: %d came: %w", count, ErrExtraFD)
	}
	return nil
}

// ended is the outcome of an end of stream: complete once a descriptor has come.
func (in *incoming) ended() error {
	if !in.arrived {
		return fmt.Errorf("fdrecv: %w", ErrNoHandoff)
	}
	return nil
}

// broken is the outcome of a handoff socket that failed.
func (in *incoming) broken(cause error) error {
	if !in.arrived {
		return fmt.Errorf("fdrecv: recvmsg: %w: %w", ErrNoHandoff, cause)
	}
	return fmt.Errorf("fdrecv: recvmsg: %w: %w", ErrBroken, cause)
}

// outcome makes the Handoff of what has come. Ownership of the client socket moves to it.
//
// mod_proxy_fdpass sends one NUL byte and nothing else, after the response head. Whoever sends more to its path is
// another module that was pointed there by mistake, and that one leaves the head to us: HeadSent is false.
func (in *incoming) outcome(kind Kind, err error) Handoff {
	h := Handoff{
		Client:     in.client,
		Kind:       kind,
		HeadSent:   kind == KindFDPass && isNoPayload(in.data),
		ClientAddr: in.clientAddr,
		AcceptedAt: in.acceptedAt,
		Err:        err,
	}
	in.client = loop.FD{}
	if err != nil {
		return h
	}
	if isNoPayload(in.data) {
		return h
	}
	if kind == KindFDPass {
		h.Err = fmt.Errorf("fdrecv: a payload on an fdpass socket: %w", ErrMalformed)
		return h
	}
	data := in.data
	if in.own {
		data = slices.Clip(data)
	} else {
		data = bytes.Clone(data)
	}
	h.Payload, h.Err = ParsePayload(data)
	return h
}

// isNoPayload: nothing, or the lone NUL byte that stands for it (a message needs a byte to carry a descriptor).
func isNoPayload(b []byte) bool { return len(b) == 0 || len(b) == 1 && b[0] == 0 }
