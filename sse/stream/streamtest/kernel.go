package streamtest

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// Kernel is a conn.Kernel that makes the real calls and records what they wrote. Socket options are left alone.
type Kernel struct {
	// Take, if set before the first client, says how many of the offered bytes a descriptor may take, or why none.
	// It is called on the loops.
	Take func(fd, offered int) (int, error)

	mu     sync.Mutex
	writes map[int][]string
}

// Writes is what each write call to a descriptor wrote, in order.
func (k *Kernel) Writes(fd int) []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.writes[fd])
}

func (k *Kernel) Send(fd int, b []byte) (int, error) { return k.Sendv(fd, [][]byte{b}) }

func (k *Kernel) Sendv(fd int, pieces [][]byte) (int, error) {
	pieces = pieces[:min(len(pieces), loop.SendvMax)]
	offered := 0
	for _, p := range pieces {
		offered += len(p)
	}
	if k.Take != nil {
		n, err := k.Take(fd, offered)
		if err != nil {
			return 0, err
		}
		offered = n
	}
	b := slices.Concat(pieces...)
	n, err := loop.Send(fd, b[:offered])
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.writes == nil {
			k.writes = map[int][]string{}
		}
		k.writes[fd] = append(k.writes[fd], string(b[:n]))
	}
	return n, err
}

func (k *Kernel) Setup(int, time.Duration) error { return nil }

func (k *Kernel) Attach(s *loop.Source, l *loop.Loop, fd loop.FD, h loop.Handler) error {
	return s.Attach(l, fd, h)
}
func (k *Kernel) Retire(s *loop.Source)              { s.Retire() }
func (k *Kernel) Recv(fd int, b []byte) (int, error) { return loop.Recv(fd, b) }
func (k *Kernel) ShutdownWrite(fd int) error         { return loop.ShutdownWrite(fd) }
func (k *Kernel) Reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
