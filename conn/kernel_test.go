package conn_test

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/loop"
)

// meddler is the real Kernel with counters and with hooks in front of it. Hooks are set before use and run on a loop.
type meddler struct {
	conn.Kernel
	sends, recvs, received atomic.Int64
	// limit says how many of the offered bytes the kernel is offered, or with what error it is not asked at all.
	limit func(offered int) (int, error)
}

func newMeddler() *meddler { return &meddler{Kernel: conn.Linux} }

func (m *meddler) allow(offered int) (int, error) {
	m.sends.Add(1)
	if m.limit == nil {
		return offered, nil
	}
	return m.limit(offered)
}

func (m *meddler) Send(fd int, b []byte) (int, error) {
	n, err := m.allow(len(b))
	if err != nil {
		return 0, err
	}
	return m.Kernel.Send(fd, b[:n])
}

func (m *meddler) Sendv(fd int, pieces [][]byte) (int, error) {
	offered := 0
	for _, p := range pieces {
		offered += len(p)
	}
	n, err := m.allow(offered)
	switch {
	case err != nil:
		return 0, err
	case n == offered:
		return m.Kernel.Sendv(fd, pieces)
	}
	var some [][]byte // a copy: the pieces are not ours
	for _, p := range pieces {
		if n == 0 {
			break
		}
		p = p[:min(n, len(p))]
		some, n = append(some, p), n-len(p)
	}
	return m.Kernel.Sendv(fd, some)
}

func (m *meddler) Recv(fd int, b []byte) (int, error) {
	m.recvs.Add(1)
	n, err := m.Kernel.Recv(fd, b)
	m.received.Add(int64(n))
	return n, err
}

// sink is a Kernel without descriptors: it collects what is sent. One conn at a time when what it got matters. It is
// set up on the loop, and read there.
type sink struct {
	take     func(offered int) (int, error) // nil: everything
	keep     bool                           // got is wanted
	got      []byte
	sends    int
	shut     bool
	resets   int
	handlers []loop.Handler
}

func (*sink) Setup(int, time.Duration) error { return nil }
func (k *sink) Attach(_ *loop.Source, _ *loop.Loop, _ loop.FD, h loop.Handler) error {
	k.handlers = append(k.handlers, h)
	return nil
}
func (*sink) Retire(*loop.Source)           {}
func (*sink) Recv(int, []byte) (int, error) { return 0, unix.EAGAIN }
func (k *sink) ShutdownWrite(int) error     { k.shut = true; return nil }
func (k *sink) Reset(int)                   { k.resets++ }

func (k *sink) Send(_ int, b []byte) (int, error) {
	n, err := k.accept(len(b))
	if k.keep {
		k.got = append(k.got, b[:n]...)
	}
	return n, err
}

func (k *sink) Sendv(_ int, pieces [][]byte) (int, error) {
	pieces = pieces[:min(len(pieces), loop.SendvMax)]
	offered := 0
	for _, p := range pieces {
		offered += len(p)
	}
	n, err := k.accept(offered)
	for left := n; k.keep && left > 0; pieces = pieces[1:] {
		p := pieces[0][:min(left, len(pieces[0]))]
		k.got, left = append(k.got, p...), left-len(p)
	}
	return n, err
}

func (k *sink) accept(offered int) (int, error) {
	k.sends++
	if k.take == nil {
		return offered, nil
	}
	return k.take(offered)
}
