package loop

import (
	"errors"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNoFD is returned where a descriptor is needed and the FD holds none.
var ErrNoFD = errors.New("loop: no descriptor")

// FD owns one descriptor until Close or Release; after either it holds none. The zero FD holds none. It is passed by
// value where ownership moves: the giver must not use its copy again. Not safe for concurrent use.
type FD struct {
	plus1 int32 // descriptor + 1, so that the zero value is not standard input
}

// OwnFD takes ownership of descriptor n, which must be open (n >= 0).
func OwnFD(n int) FD {
	if n < 0 {
		panic("loop: OwnFD of " + strconv.Itoa(n))
	}
	return FD{plus1: int32(n) + 1}
}

// Valid reports whether f holds a descriptor.
func (f *FD) Valid() bool { return f.plus1 > 0 }

// Int lends the descriptor for a syscall: -1 when f holds none. The caller must not close or keep it.
func (f *FD) Int() int { return int(f.plus1) - 1 }

// Release gives the descriptor up: the caller closes it from now on. It is -1 when f held none.
func (f *FD) Release() int {
	n := int(f.plus1) - 1
	f.plus1 = 0
	return n
}

// Close closes the descriptor; twice is safe. EINTR counts as closed, as Linux has released the number by then
// (close(2), "Dealing with error returns").
func (f *FD) Close() error {
	if !f.Valid() {
		return nil
	}
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(f.Release()), 0, 0)
	if errno != 0 && errno != unix.EINTR {
		return errno
	}
	return nil
}
