package load

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// SocketType is the type of a handoff socket.
type SocketType int

// The two types: the older module of the web server speaks the first, the current one the second.
const (
	Stream    SocketType = unix.SOCK_STREAM
	Seqpacket SocketType = unix.SOCK_SEQPACKET
)

func (t SocketType) String() string {
	if t == Stream {
		return "stream"
	}
	return "seqpacket"
}

// sendPatience is how long a sender waits for room in the socket, in ms: the older module's SO_SNDTIMEO.
const sendPatience = 500

// handOver passes the socket server to whoever listens at path and closes the handoff socket. The caller keeps server.
// EAGAIN: the backlog is full, nothing was sent.
func handOver(path *unix.SockaddrUnix, t SocketType, server int, payload []byte) error {
	n, err := unix.Socket(unix.AF_UNIX, int(t)|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("load: socket: %w", err)
	}
	fd := loop.OwnFD(n)
	defer func() { _ = fd.Close() }()
	if err := unix.Connect(n, path); err != nil {
		return fmt.Errorf("load: connect to handoff socket: %w", err)
	}
	if len(payload) == 0 {
		payload = []byte{0}
	}
	rights := unix.UnixRights(server)
	for len(payload) > 0 {
		sent, err := unix.SendmsgN(n, payload, rights, nil, unix.MSG_NOSIGNAL)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := waitWritable(n); err != nil {
				return err
			}
		case err != nil:
			return fmt.Errorf("load: sendmsg: %w", err)
		default:
			payload, rights = payload[sent:], nil
		}
	}
	return nil
}

func waitWritable(fd int) error {
	ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, sendPatience)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("load: poll: %w", err)
	}
	if ready == 0 && err == nil {
		return errors.New("load: the handoff socket takes no more bytes")
	}
	return nil
}
