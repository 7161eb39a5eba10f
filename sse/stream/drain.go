package stream

import (
	"math/rand/v2"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/loop"
)

// cutStep is how often a share of the remaining streams is cut.
const cutStep = 50 * time.Millisecond

// Drain tells every backend, now and at the start of each stream that still comes, that the server ends once its
// streams have ended. Any goroutine; twice is safe.
func (s *Server) Drain() {
	for _, sh := range s.shards {
		_ = sh.loop.Post(func() { // ErrClosed: no streams are left there
			if !sh.draining {
				sh.draining = true
				sh.each((*Stream).drain)
			}
		})
	}
}

// Cut ends the streams that are still open with an error event, spread over a time, so that their clients do not
// come back in one instant. Each is told to wait up to twice that time before it reconnects (`retry:`), at random.
// Any goroutine.
func (s *Server) Cut(spread time.Duration) {
	for _, sh := range s.shards {
		_ = sh.loop.Post(func() { newCutter(sh, spread).Fire() })
	}
}

// each calls f for every stream of the shard. f may end that one and no other.
func (sh *shard) each(f func(*Stream)) {
	sh.loop.Each(func(h loop.Handler) {
		if who, ok := conn.OwnerOf(h); ok {
			if o, ok := who.(*owner); ok {
				f((*Stream)(o))
			}
		}
	})
}

// cutter ends a share of the streams of a shard at each step. It is a loop.Firer.
type cutter struct {
	shard  *shard
	timer  loop.Timer
	left   []*Stream     // in random order
	steps  int           // still to go
	spread time.Duration // of the retry times
}

func newCutter(sh *shard, spread time.Duration) *cutter {
	c := &cutter{shard: sh, steps: max(1, int(spread/cutStep)), spread: spread}
	c.timer.Firer = c
	sh.each(func(s *Stream) { c.left = append(c.left, s) })
	rand.Shuffle(len(c.left), func(i, j int) { c.left[i], c.left[j] = c.left[j], c.left[i] })
	return c
}

func (c *cutter) Fire() {
	share := (len(c.left) + c.steps - 1) / c.steps
	for _, s := range c.left[:share] {
		s.end(ErrCut, time.Second+rand.N(2*c.spread+1))
	}
	c.left = c.left[share:]
	if c.steps--; len(c.left) > 0 {
		c.shard.loop.Arm(&c.timer, c.shard.loop.Now()+cutStep)
	}
}

// Failed: a stream panicked on its way out; the others still have to be cut.
func (c *cutter) Failed(error) { c.shard.loop.Arm(&c.timer, c.shard.loop.Now()+cutStep) }
