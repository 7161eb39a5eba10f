package fdrecv

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

const (
	lockPatience = 2 * time.Second      // for a start that holds the lock: it needs a few milliseconds
	lockRetry    = 5 * time.Millisecond // between two tries
)

// lockPath takes the lock that keeps two starts on one path apart. The caller owns the descriptor; closing it gives
// the lock up.
func lockPath(path string) (loop.FD, error) {
	fd, err := openLock(path)
	if err != nil {
		return loop.FD{}, err
	}
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockRetry) {
		err := unix.Flock(fd.Int(), unix.LOCK_EX|unix.LOCK_NB) // with a deadline, which flock itself does not know
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) || time.Now().After(deadline) {
			_ = fd.Close()
			return loop.FD{}, fmt.Errorf("fdrecv: another start holds %s.lock: wait for it or end it: %w: %w", path,
				ErrInUse, err)
		}
	}
}

func openLock(path string) (loop.FD, error) {
	n, err := unix.Open(path+".lock", unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	switch {
	case err == nil:
		return loop.OwnFD(n), nil
	case errors.Is(err, unix.ENOENT):
		return loop.FD{}, fmt.Errorf("fdrecv: the directory of %s does not exist: create it: %w", path, err)
	default:
		return loop.FD{}, fmt.Errorf("fdrecv: cannot open %s.lock: the directory must be writable for this user and the "+
			"file its own: %w", path, err)
	}
}

// removeStale makes way for a bind: nothing may be there, or a socket that nobody listens on. The lock is held.
func removeStale(path string, kind Kind) error {
	before, err := statSocket(path)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	switch err := probe(path, kind); {
	case errors.Is(err, unix.ECONNREFUSED): // the only answer that means stale
	case errors.Is(err, unix.ENOENT):
		return nil
	case err == nil, errors.Is(err, unix.EAGAIN): // EAGAIN: its backlog is full
		return fmt.Errorf("fdrecv: another process listens on %s: stop it or choose another path: %w", path, ErrInUse)
	case errors.Is(err, unix.EPROTOTYPE):
		return fmt.Errorf("fdrecv: another process listens on %s, with another type of socket: stop it or choose another "+
			"path: %w: %w", path, ErrInUse, err)
	default: // EACCES for one
		return fmt.Errorf("fdrecv: cannot tell whether another process listens on %s: stop it, remove the file or choose "+
			"another path: %w: %w", path, ErrInUse, err)
	}
	if now, err := statSocket(path); err != nil || now != before {
		return fmt.Errorf("fdrecv: %s was replaced while it was looked at: try again: %w", path, ErrInUse)
	}
	if err := unix.Unlink(path); err != nil {
		return fmt.Errorf("fdrecv: cannot remove the stale socket %s: remove it by hand: %w", path, err)
	}
	return nil
}

// probe connects without waiting. The connection, if there is one, ends at once: the other side sees ErrNoHandoff.
func probe(path string, kind Kind) error {
	n, err := unix.Socket(unix.AF_UNIX, kind.socketType()|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	fd := loop.OwnFD(n)
	defer fd.Close()
	return unix.Connect(fd.Int(), &unix.SockaddrUnix{Name: path})
}

// inode tells one file from another, also from one that has taken its name since.
type inode struct{ device, number uint64 }

// statSocket is the inode of the socket at path: a link is not followed, and something else is an error.
func statSocket(path string) (inode, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return inode{}, fmt.Errorf("fdrecv: %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return inode{}, fmt.Errorf("fdrecv: %s exists and is not a socket: remove it or choose another path: %w", path,
			fs.ErrExist)
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}

// boundPath is the name of a socket that we bound.
type boundPath struct {
	path    string
	inode   inode
	removal sync.Once
}

// bind gives the socket its path and the path its mode, owner and group. On an error the path is gone again. The lock is held.
func bind(socket int, cfg ListenConfig) (*boundPath, error) {
	if err := unix.Bind(socket, &unix.SockaddrUnix{Name: cfg.Path}); err != nil {
		return nil, fmt.Errorf("fdrecv: bind to %s: the directory must exist and be writable for this user: %w", cfg.Path,
			err)
	}
	inode, err := permitSocket(cfg)
	if err != nil {
		_ = os.Remove(cfg.Path)
		return nil, err
	}
	return &boundPath{path: cfg.Path, inode: inode}, nil
}

// permitSocket sets the mode, owner and group of the socket file and tells its inode. fchmod on the socket would change
// the socket's own inode, not the file's; chmod by name would follow a link that was put in its place. So the file is
// pinned with O_PATH, looked at, and changed through /proc (fchmodat2, which can do without, is newer than Debian 12's
// kernel). The mode comes first: afterwards the file may be another user's.
func permitSocket(cfg ListenConfig) (inode, error) {
	path := cfg.Path
	n, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return inode{}, fmt.Errorf("fdrecv: %s after bind: %w", path, err)
	}
	fd := loop.OwnFD(n)
	defer fd.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd.Int(), &st); err != nil {
		return inode{}, fmt.Errorf("fdrecv: %s after bind: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return inode{}, fmt.Errorf("fdrecv: %s was replaced during the start: use a directory that only this user can "+
			"write to: %w", path, ErrInUse)
	}
	link := "/proc/self/fd/" + strconv.Itoa(fd.Int())
	if err := unix.Chmod(link, uint32(cfg.Mode.Perm())); err != nil {
		return inode{}, fmt.Errorf("fdrecv: cannot set the mode of %s: is /proc mounted? %w", path, err)
	}
	if cfg.UID != nil || cfg.GID != nil {
		if err := unix.Chown(link, chownID(cfg.UID), chownID(cfg.GID)); err != nil {
			return inode{}, fmt.Errorf("fdrecv: cannot give %s to its owner and group: only root may give a file away, and to a "+
				"group only a member of it: %w", path, err)
		}
	}
	return inode{uint64(st.Dev), st.Ino}, nil
}

// chownID is an id as chown(2) takes it: -1 leaves the old one.
func chownID(id *uint32) int {
	if id == nil {
		return -1
	}
	return int(*id)
}

// removePath removes the path once, when it is still ours. Any goroutine.
func (ln *Listener) removePath() {
	if ln.bound == nil {
		return
	}
	ln.bound.removal.Do(func() {
		if err := ln.bound.remove(); err != nil {
			slog.Warn("fdrecv: the socket file stays", "path", ln.bound.path, "error", err)
		}
	})
}

// remove unlinks under the lock: without it, a start between our look and our unlink would lose its new socket. When
// the lock is taken, a start is under way that deals with the path itself.
func (b *boundPath) remove() error {
	lock, err := openLock(b.path)
	if errors.Is(err, unix.ENOENT) {
		return nil // with its directory
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(lock.Int(), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("fdrecv: %s.lock: %w", b.path, err)
	}
	return b.removeLocked()
}

func (b *boundPath) removeLocked() error {
	if now, err := statSocket(b.path); err != nil || now != b.inode {
		return nil // gone, or somebody else's
	}
	if err := unix.Unlink(b.path); err != nil {
		return fmt.Errorf("fdrecv: unlink %s: %w", b.path, err)
	}
	return nil
}
