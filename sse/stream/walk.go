package stream

import (
	"slices"
	"sync/atomic"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/loop"
)

// listPart is how many sources a loop looks at before it goes on with its clients: 17 us of the loop's time, 105 us
// at the 99th percentile (BenchmarkList: 9,000 streams, 2 shared cores of a Xeon).
const listPart = 512

// seen is a stream as it was looked at. The pointer is its identity and nothing else: nobody but its loop may follow it.
type seen struct {
	stream *Stream
	Info
}

// walk looks at the streams of one shard. It belongs to the goroutine in run.
type walk struct {
	shard *shard
	query Query
	at    time.Duration // common clock of the loops: ages are as of now, or the loops' would not compare

	kept    []seen // of those that fit: the first in the order, and up to as many again that wait for trim
	matched int
	silent  bool
}

// part is one look. It belongs to the loop from its post to its answer; for good when there is no answer in time.
type part struct {
	at         time.Duration
	from, next int // see loop.EachPart
	seen       []seen
	givenUp    atomic.Bool
	answered   chan struct{}
}

// run looks at all streams, part by part.
func (w *walk) run(patience time.Duration) {
	p := &part{at: w.at, next: loop.AllParts, answered: make(chan struct{}, 1)}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for p.next != 0 {
		p.from, p.seen = p.next, p.seen[:0]
		err := w.shard.loop.Post(func() {
			if !p.givenUp.Load() { // a loop that comes back after a stall has better things to do
				look(w.shard, p)
				p.answered <- struct{}{}
			}
		})
		if err != nil {
			w.silent = true // the process ends
			return
		}
		timer.Reset(patience)
		select {
		case <-p.answered:
		case <-timer.C:
			p.givenUp.Store(true)
			w.silent = true
			w.trim()
			return
		}
		w.take(p.seen)
	}
	w.trim()
}

// look is (*shard).look; the benchmark puts a clock around it.
var look = (*shard).look

// look fills p. Loop goroutine only.
func (sh *shard) look(p *part) {
	p.next = sh.loop.EachPart(p.from, listPart, func(h loop.Handler) {
		if who, ok := conn.OwnerOf(h); ok {
			if o, ok := who.(*owner); ok && o.phase != phaseOver { // over: its conn lingers
				p.seen = append(p.seen, seen{(*Stream)(o), (*Stream)(o).info(p.at)})
			}
		}
	})
}

// info is what the stream looks like from outside, with its age as of a time before now, or 0. Its strings can be read
// anywhere.
func (s *Stream) info(at time.Duration) Info {
	i := Info{
		Loop: s.shard.loop.Index(), Age: max(0, at-s.accepted), Idle: max(0, at-s.lastSend), State: s.conn.StateName(),
		Bytes: s.conn.Sent(), Events: uint64(s.events), Pending: s.conn.Pending(),
	}
	if s.phase == phaseHeld {
		i.State = "held"
	}
	if s.late != nil && s.late.access != nil {
		a := s.late.access
		i.Client, i.UserID, i.RequestID, i.Backend = a.Client, a.UserID, a.RequestID, a.Backend
	}
	return i
}

// take keeps of a part what the query fits.
func (w *walk) take(part []seen) {
	for i := range part {
		if w.query.fits(&part[i].Info) {
			w.matched++
			w.kept = append(w.kept, part[i])
		}
	}
	if len(w.kept) >= 2*w.query.Limit {
		w.trim()
	}
}

// trim keeps the first of the order, each stream once.
func (w *walk) trim() {
	slices.SortStableFunc(w.kept, func(a, b seen) int { return w.query.Order.compare(&a.Info, &b.Info) })
	once := make(map[*Stream]bool, len(w.kept))
	w.kept = slices.DeleteFunc(w.kept, func(s seen) bool {
		again := once[s.stream]
		once[s.stream] = true
		return again
	})
	clear(w.kept[min(len(w.kept), w.query.Limit):])
	w.kept = w.kept[:min(len(w.kept), w.query.Limit)]
}
