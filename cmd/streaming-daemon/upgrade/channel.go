package upgrade

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// version is that of the messages. Another one is refused: the predecessor goes on.
const version = 1

// packetMax is the largest message in bytes: as many as a packet of this kind can have at the default SO_SNDBUF
// (unix(7): 212,992 less 32).
const packetMax = 212_960

// kind says what a message is; doc.go has the order.
type kind string

const (
	kindHello     kind = "hello"     // from the predecessor
	kindSocket    kind = "socket"    // one of Sockets, with its descriptor
	kindReady     kind = "ready"     // from the successor
	kindFailed    kind = "failed"    // from the successor, which ends
	kindAccept    kind = "accept"    // from the predecessor: the point of no return
	kindAbort     kind = "abort"     // from the predecessor: end without a trace
	kindAccepting kind = "accepting" // from the successor
	kindReleased  kind = "released"  // from the predecessor, with counts
	kindCounts    kind = "counts"    // from the predecessor
	kindStop      kind = "stop"      // from the successor
)

// message is one packet.
type message struct {
	Kind    kind            `json:"kind"`
	Version int             `json:"version,omitempty"` // of hello
	Sockets int             `json:"sockets,omitempty"` // of hello: how many follow
	Socket  *Socket         `json:"socket,omitempty"`
	Reason  string          `json:"reason,omitempty"` // of failed
	Counts  json.RawMessage `json:"counts,omitempty"` // whatever the predecessor counts
}

// Socket is a listening socket on its way to a successor.
type Socket struct {
	Name    string          `json:"name"`            // what it is for
	Address string          `json:"address"`         // as configured: how the successor finds the one that it wants
	Extra   json.RawMessage `json:"extra,omitempty"` // what else the successor must know of it
	FD      loop.FD         `json:"-"`
}

// channel is one end of the socket pair. Any goroutine may send; one at a time receives.
type channel struct {
	mu   sync.Mutex // held by a send, so that close does not cut one off half-way
	conn *net.UnixConn
}

// newPair makes the two ends; the caller owns both. The second is for a child: it is made a descriptor of it by
// os/exec, which clears close-on-exec in the child alone.
func newPair() (*channel, *os.File, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("upgrade: socketpair: %w", err)
	}
	far := os.NewFile(uintptr(pair[1]), "successor")
	ch, err := openChannel(os.NewFile(uintptr(pair[0]), "predecessor"))
	if err != nil {
		_ = far.Close()
		return nil, nil, err
	}
	return ch, far, nil
}

// openChannel takes f.
func openChannel(f *os.File) (*channel, error) {
	defer f.Close() // FileConn has a duplicate, close-on-exec
	conn, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("upgrade: %s: %w", f.Name(), err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("upgrade: %s is not a Unix socket", f.Name())
	}
	return &channel{conn: unixConn}, nil
}

func (ch *channel) close() { _ = ch.conn.Close() }

// send sends one message; a socket's descriptor goes with it and stays the caller's. It waits for room until the
// deadline.
func (ch *channel) send(m message, deadline time.Time) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("upgrade: %s: %w", m.Kind, err)
	}
	var rights []byte
	if m.Socket != nil {
		rights = unix.UnixRights(m.Socket.FD.Int())
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if err := ch.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("upgrade: send %s: %w", m.Kind, err)
	}
	if _, _, err := ch.conn.WriteMsgUnix(b, rights, nil); err != nil {
		return fmt.Errorf("upgrade: send %s: %w", m.Kind, err)
	}
	return nil
}

// receive waits for one message until the deadline; the zero one is none. The caller owns the descriptor of a socket.
// io.EOF: the other side has ended.
func (ch *channel) receive(deadline time.Time) (message, error) {
	if err := ch.conn.SetReadDeadline(deadline); err != nil {
		return message{}, fmt.Errorf("upgrade: receive: %w", err)
	}
	b, control := make([]byte, packetMax), make([]byte, unix.CmsgSpace(4*8)) // room for more than one: they are closed
	n, controlLen, flags, _, err := ch.conn.ReadMsgUnix(b, control)
	if isEnd(err) {
		// An end is believed when it is found twice: the kernel looks at the queue first and at the far end after that, and
		// one that sends its last words and ends between the two looks would not be heard (package fdrecv has the same).
		n, controlLen, flags, _, err = ch.conn.ReadMsgUnix(b, control)
	}
	if isEnd(err) {
		return message{}, io.EOF
	}
	if err != nil {
		return message{}, fmt.Errorf("upgrade: receive: %w", err)
	}
	fds := descriptors(control[:controlLen])
	var m message
	if err = json.Unmarshal(b[:n], &m); err == nil {
		switch {
		case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
			err = errors.New("it is cut off: no descriptor was free, or it is too large")
		case m.Kind == kindSocket && (m.Socket == nil || len(fds) != 1):
			err = fmt.Errorf("%d descriptors for one socket", len(fds))
		case m.Kind != kindSocket && len(fds) != 0:
			err = fmt.Errorf("%d descriptors and no socket", len(fds))
		}
	}
	if err != nil {
		for i := range fds {
			_ = fds[i].Close()
		}
		return message{}, fmt.Errorf("upgrade: receive %q: %w", m.Kind, err)
	}
	if m.Kind == kindSocket {
		m.Socket.FD = fds[0]
	}
	return m, nil
}

// isEnd: the far end has closed, over what we sent perhaps.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) }

// descriptors takes what came. ReadMsgUnix made them close-on-exec.
func descriptors(control []byte) []loop.FD {
	var fds []loop.FD
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return nil // what the kernel wrote can be parsed; nothing came
	}
	for i := range messages {
		rights, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue
		}
		for _, n := range rights {
			fds = append(fds, loop.OwnFD(n))
		}
	}
	return fds
}
