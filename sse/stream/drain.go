package stream

import (
	"math/rand/v2"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/loop"
)

const (
	cutStep   = 50 * time.Millisecond // how often a share of the remaining streams is cut
	drainTurn = 256                   // backends told of the drain per tick and loop: each may send a last event
)

// Drain tells every backend, within a second or so and at the start of each stream that still comes, that the server
// ends once its streams have ended. Any goroutine; twice is safe.
func (s *Server) Drain() {
	for _, sh := range s.shards {
		_ = sh.loop.Post(func() { // ErrClosed: no streams are left there
			if sh.draining {
				return
			}
			sh.draining = true
			streams := sh.streams()
			newRound(sh, streams, (len(streams)+drainTurn-1)/drainTurn, loop.TickLength, (*Stream).drain)
		})
	}
}

// Cut ends the streams that are still open with an error event, spread over a time, so that their clients do not
// come back in one instant. Each is told to wait for between one second and one second and twice that time before it
// reconnects (`retry:`), at random. A stream that still comes is refused. Any goroutine. Again, with another time:
// what is left is spread over that one.
func (s *Server) Cut(spread time.Duration) {
	for _, sh := range s.shards {
		_ = sh.loop.Post(func() {
			sh.cutting = true
			newRound(sh, sh.streams(), int(spread/cutStep), cutStep, func(s *Stream) {
				s.end(ErrCut, time.Second+rand.N(2*spread+1))
			})
		})
	}
}

// streams lists the streams of the shard in random order, those that linger included.
func (sh *shard) streams() []*Stream {
	var all []*Stream
	sh.loop.Each(func(h loop.Handler) {
		if who, ok := conn.OwnerOf(h); ok {
			if o, ok := who.(*owner); ok {
				all = append(all, (*Stream)(o))
			}
		}
	})
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// round visits streams, an equal share at each step. It works on a list of its own, not inside Loop.Each: a visit runs
// backends, which may end any stream. It is a loop.Firer.
type round struct {
	loop  *loop.Loop
	timer loop.Timer
	left  []*Stream
	steps int           // still to go; at least 1
	step  time.Duration // between steps
	visit func(*Stream)
}

// newRound begins a round at the end of this tick.
func newRound(sh *shard, streams []*Stream, steps int, step time.Duration, visit func(*Stream)) {
	r := &round{loop: sh.loop, left: streams, steps: max(1, steps), step: step, visit: visit}
	r.timer.Firer = r
	r.loop.Arm(&r.timer, r.loop.Now())
}

func (r *round) Fire() {
	share := (len(r.left) + r.steps - 1) / r.steps
	r.steps = max(1, r.steps-1)
	for range share {
		s := r.left[0]
		r.left[0], r.left = nil, r.left[1:] // gone before the visit: one that panics must not be visited for ever
		r.visit(s)
	}
	r.next()
}

func (r *round) next() {
	if len(r.left) > 0 {
		r.loop.Arm(&r.timer, r.loop.Now()+r.step)
	}
}

// Failed: a visit panicked (our bug, a backend's own is recovered before); the others still have theirs.
func (r *round) Failed(error) { r.next() }
