package load

import (
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// pacer says when the next client comes. Clients come at random, as they do to a web server (exponential gaps): at
// even gaps those of one second would all have the phase of those of the second before, and a daemon's events would
// come in bunches that real ones do not come in.
//
// It has a timerfd of its own: the ticks of a loop's wheel would make bunches, too. Loop goroutine only.
type pacer struct {
	loop.Source
	w       *worker
	perSec  float64       // 0: no pace, everything is due now
	next    time.Duration // on the loop's clock: when the next client comes
	random  *rand.Rand
	discard [8]byte
}

// attach opens the timerfd.
func (p *pacer) attach(w *worker) error {
	p.w, p.random = w, w.random
	n, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("load: timerfd: %w", err)
	}
	fd := loop.OwnFD(n)
	if err := p.Attach(w.loop, fd, p); err != nil {
		_ = fd.Close()
		return err
	}
	return nil
}

// set begins at a new rate, now.
func (p *pacer) set(perSec float64) {
	p.perSec = perSec
	p.next = p.w.loop.Clock()
}

// due reports whether a client comes now, and takes it. After a stall those that were missed all come.
func (p *pacer) due() bool {
	if p.perSec <= 0 {
		return true
	}
	if p.next > p.w.loop.Clock() {
		return false
	}
	p.next += time.Duration(p.random.ExpFloat64() / p.perSec * float64(time.Second))
	return true
}

// arm has the worker's pump run when the next client comes.
func (p *pacer) arm() {
	wait := max(1, p.next-p.w.loop.Clock())
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(wait))}
	if err := unix.TimerfdSettime(p.FD(), 0, &spec, nil); err != nil {
		panic(fmt.Sprintf("load: timerfd_settime: %v", err)) // EINVAL and EBADF only: ours
	}
}

func (p *pacer) Readable() {
	_, _ = unix.Read(p.FD(), p.discard[:]) // EAGAIN: set again meanwhile
	p.w.runPump()
}
func (p *pacer) Writable()        {}
func (p *pacer) Hangup()          { panic("load: hangup of a timerfd") }
func (p *pacer) Failed(err error) { p.w.panicked.Store(&err) }
