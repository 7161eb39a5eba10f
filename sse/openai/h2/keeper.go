package h2

import (
	"log/slog"
	"sync/atomic"
	"time"

	"streaming-daemon-go/loop"
)

// keeper looks at every connection from time to time: at idle ones to close, silent ones to ping, dead ones to end. It
// is a timer of the first loop; armed while there is anything to look at. It is a loop.Firer.
type keeper struct {
	t     *Transport // immutable
	every time.Duration
	timer loop.Timer  // owned by the loop
	awake atomic.Bool // the timer is armed, or will be
	arm   func()      // armTimer, bound once
	conns []*conn     // scratch, owned by the loop
}

// keeperSlowest is how far apart looks are at most: what they decide comes that much later.
const keeperSlowest = time.Second

func (k *keeper) init(t *Transport) {
	k.t = t
	k.every = min(keeperSlowest, t.cfg.IdleTimeout/2, t.cfg.PingIdle/2, t.cfg.PingTimeout/2)
	k.timer.Firer = k
	k.arm = k.armTimer
}

func (k *keeper) loop() *loop.Loop { return k.t.shards[0].loop }

// wake makes sure that the keeper looks, soon. Any goroutine, under any lock.
func (k *keeper) wake() {
	if !k.awake.Swap(true) {
		_ = k.loop().Post(k.arm) // ErrClosed: there is nothing left to keep
	}
}

func (k *keeper) armTimer() {
	l := k.loop()
	l.Arm(&k.timer, l.Now()+k.every)
}

// Fire looks.
func (k *keeper) Fire() {
	now := k.t.clock()
	k.conns = k.t.appendConns(k.conns[:0])
	for i, c := range k.conns {
		c.check(now)
		k.conns[i] = nil
	}
	if k.t.anything() {
		k.armTimer()
		return
	}
	k.awake.Store(false)
	if k.t.anything() { // it came in between, and found the keeper awake
		k.wake()
	}
}

// Failed: Fire panicked (our bug); the others still need a keeper.
func (k *keeper) Failed(err error) {
	slog.Error("h2: keeper", "error", err)
	k.armTimer()
}

// appendConns adds the connections that there are.
func (t *Transport) appendConns(to []*conn) []*conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(to, t.conns...)
}

// anything reports whether there is anything to keep. What waits for the next dial is placed on the way.
func (t *Transport) anything() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.place()
	return !t.closed && (len(t.conns) > 0 || t.dialing > 0 || t.waiting.len > 0)
}
