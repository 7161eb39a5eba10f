package fdrecv

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// pathMax is the longest path of a Unix socket in bytes: sun_path, less its NUL (unix(7)).
const pathMax = 107

// ListenConfig says where a Listener listens.
type ListenConfig struct {
	Path    string
	Kind    Kind
	Mode    fs.FileMode // permission bits of the path: who may write to it may hand over clients
	UID     *uint32     // owner of the path; nil: as the kernel made it, this process's user
	GID     *uint32     // group of the path; nil: as the kernel made it, this process's group or the directory's
	Backlog int         // connections that wait to be accepted; 0: as many as net.core.somaxconn allows (P-02)
}

// Listener is a Unix socket that handoffs come in on. It accepts nothing before Serve; what connects meanwhile waits
// in the backlog. It must end with Drain or Close, before its loop is closed.
type Listener struct {
	kind  Kind       // immutable
	bound *boundPath // immutable; nil: the socket was inherited, and its path is not ours

	mu   sync.Mutex
	loop *loop.Loop // written once, in Serve, guarded by mu; read on the loop without
	cfg  Config     // written once, in Serve; owned by the loop from then on

	// guarded by mu before Serve, owned by the loop afterwards
	state state
	fd    loop.FD // held while the socket is open and not attached

	// owned by the loop
	source       loop.Source // the listening socket; attached exactly while serving and not backing off
	timer        loop.Timer  // armed exactly while backing off; with handoffs that wait for room, when closing too
	silent       pendingList // incomplete and without a descriptor yet
	withClient   pendingList // incomplete, the descriptor has come
	waiting      pendingList // come, and not taken for want of room; empty unless backing off
	pendingCount int         // in all three lists
	done         []func()    // of Drain
	logged       bool        // loggedAt is valid
	loggedAt     time.Duration
	backOffs     int // since the last log line
}

// ErrInUse: somebody listens on the path already.
var ErrInUse = errors.New("in use")

// errClosed is what Close ends incomplete handoffs with.
var errClosed = fmt.Errorf("fdrecv: %w", ErrClosed)

// Listen binds a Unix socket to a path and listens. A socket that nobody listens on any more is replaced; anything
// else that exists is left alone. Two starts at a time are kept apart by a lock on "<path>.lock", which stays behind
// (removing it would let two hold a lock each). It blocks for up to two seconds while another start holds the lock.
//
// Mode, owner and group are set between bind and listen: before listen, connects are refused, so nobody gets in under looser
// ones. Any goroutine. An error is one line that names the path and what to do; ErrInUse, the errno and fs.ErrExist
// can be tested for.
func Listen(cfg ListenConfig) (*Listener, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	lock, err := lockPath(cfg.Path)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // gives the lock up
	if err := removeStale(cfg.Path, cfg.Kind); err != nil {
		return nil, err
	}
	n, err := unix.Socket(unix.AF_UNIX, cfg.Kind.socketType()|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("fdrecv: socket for %s: %w", cfg.Path, err)
	}
	fd := loop.OwnFD(n)
	bound, err := bind(fd.Int(), cfg)
	if err != nil {
		_ = fd.Close()
		return nil, err
	}
	backlog := cfg.Backlog
	if backlog == 0 {
		backlog = math.MaxInt32 // the kernel cuts it down to net.core.somaxconn (listen(2))
	}
	if err := unix.Listen(fd.Int(), backlog); err != nil {
		_ = fd.Close()
		_ = bound.removeLocked()
		return nil, fmt.Errorf("fdrecv: listen on %s: %w", cfg.Path, err)
	}
	return &Listener{kind: cfg.Kind, bound: bound, fd: fd}, nil
}

// Check finds what cannot work whatever the machine has, in one line that names the path. Listen begins with it. Any
// goroutine.
func (cfg ListenConfig) Check() error {
	switch {
	case cfg.Path == "":
		return errors.New("fdrecv: the path of the socket is empty")
	case strings.IndexByte(cfg.Path, 0) >= 0:
		return fmt.Errorf("fdrecv: path %q has a NUL byte in it", cfg.Path)
	case cfg.Path[0] == '@':
		return fmt.Errorf("fdrecv: %s: abstract sockets have no mode that could keep others out; use a path", cfg.Path)
	case len(cfg.Path) > pathMax:
		return fmt.Errorf("fdrecv: path %s has %d bytes, and the kernel takes %d: choose a shorter one: %w", cfg.Path,
			len(cfg.Path), pathMax, unix.ENAMETOOLONG)
	case cfg.Kind >= numKinds:
		return fmt.Errorf("fdrecv: kind %d for %s", cfg.Kind, cfg.Path)
	case cfg.Mode&^fs.ModePerm != 0:
		return fmt.Errorf("fdrecv: mode %v for %s: only permission bits are possible", cfg.Mode, cfg.Path)
	case cfg.Backlog < 0:
		return fmt.Errorf("fdrecv: backlog %d for %s", cfg.Backlog, cfg.Path)
	}
	return nil
}

// socketType is the type that the listening socket of a kind has.
func (k Kind) socketType() int {
	if k == KindSeqpacket {
		return unix.SOCK_SEQPACKET
	}
	return unix.SOCK_STREAM
}

// ListenerFromFD makes a Listener of a socket that was inherited (from a service manager or a predecessor): others may
// hold it too, so it is never shut down and its path never removed. It takes fd; on an error the caller keeps it. fd
// must be a listening Unix socket of the kind's type. O_NONBLOCK is set, which every holder shares. Any goroutine.
func ListenerFromFD(fd loop.FD, kind Kind) (*Listener, error) {
	if kind >= numKinds {
		return nil, fmt.Errorf("fdrecv: kind %d", kind)
	}
	n := fd.Int()
	for _, want := range []struct {
		option, value int
		text          string
	}{
		{unix.SO_DOMAIN, unix.AF_UNIX, "a Unix socket"},
		{unix.SO_TYPE, kind.socketType(), "of the type of kind " + kind.String()},
		{unix.SO_ACCEPTCONN, 1, "listening"},
	} {
		got, errno := socketOption(n, want.option)
		if errno != 0 {
			return nil, fmt.Errorf("fdrecv: descriptor %d is not a socket: %w", n, errno)
		}
		if got != want.value {
			return nil, fmt.Errorf("fdrecv: descriptor %d is not %s", n, want.text)
		}
	}
	if err := unix.SetNonblock(n, true); err != nil {
		return nil, fmt.Errorf("fdrecv: descriptor %d: %w", n, err)
	}
	unix.CloseOnExec(n)
	return &Listener{kind: kind, fd: fd}, nil
}

// Kind is the protocol. Any goroutine.
func (ln *Listener) Kind() Kind { return ln.kind }

// name is for log lines.
func (ln *Listener) name() string {
	if ln.bound == nil {
		return "inherited " + ln.kind.String() + " socket"
	}
	return ln.bound.path
}
