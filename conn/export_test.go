package conn

import (
	"time"
	"unsafe"

	"streaming-daemon-go/loop"
)

// What the tests outside the package need of its inside.

const (
	TurnBytes    = turnBytes
	TurnSends    = turnSends
	TurnReads    = turnReads
	ExpireTurn   = expireTurn
	OutboxesKept = outboxesKept
	CopiesKept   = copiesKept
	PiecesKept   = piecesKept
	NotSentLowat = notSentLowat

	SizeOfConn   = unsafe.Sizeof(Conn{})
	SizeOfOutbox = unsafe.Sizeof(outbox{})
)

// Linux is the real Kernel, for one that meddles.
var Linux Kernel = linux{}

// Spare is how many outboxes the shard keeps, and the bytes of the largest of them. Loop goroutine only.
func (sh *Shard) Spare() (n, largest int) {
	for o := sh.free; o != nil; o = o.next {
		n++
		largest = max(largest, cap(o.copies)+cap(o.pieces)*int(unsafe.Sizeof([]byte{})))
	}
	if n != sh.freeLen {
		panic("conn: freeLen is wrong")
	}
	return n, largest
}

// Blocked and Lingering are the conns in the shard's lists, in order. They panic when a list is not in the order of
// its deadlines, or when its timer would come too late for the first. Loop goroutine only.
func (sh *Shard) Blocked() []*Conn   { return sh.blocked.conns() }
func (sh *Shard) Lingering() []*Conn { return sh.lingering.conns() }

func (w *waitList) conns() (all []*Conn) {
	var prev *outbox
	for o := w.first; o != nil; prev, o = o, o.next {
		if o.prev != prev || prev != nil && prev.since > o.since {
			panic("conn: list out of order")
		}
		all = append(all, o.conn)
	}
	if w.last != prev {
		panic("conn: end of list is wrong")
	}
	const rounded = 4 * time.Millisecond // a loop may round a deadline up by so much
	if w.first != nil && (!w.timer.Armed() || w.timer.At() > max(w.first.since+w.timeout(), w.loop.Now())+rounded) {
		panic("conn: timer too late for the first of the list")
	}
	return all
}

// Held is how many bytes the outbox of c occupies, those of blocks that only pieces hold not included.
func (c *Conn) Held() int {
	if c.out == nil {
		return 0
	}
	return cap(c.out.copies) + cap(c.out.pieces)*int(unsafe.Sizeof([]byte{}))
}

// Pieces is how many pieces wait.
func (c *Conn) Pieces() int {
	if c.out == nil {
		return 0
	}
	return len(c.out.pieces) - c.out.first
}

// FD lends the descriptor: -1 once it is retired.
func (c *Conn) FD() int { return c.source.FD() }

// Step tries a step from one state to another, by name, on a Conn that has nothing.
func Step(sh *Shard, from, to string) {
	c := &Conn{shard: sh, state: stateOf(from)}
	switch c.state {
	case statePaused:
		sh.counts.paused.Add(1)
		defer sh.counts.paused.Store(0)
	case stateLingering:
		c.borrow()
		sh.lingering.push(c.out)
		defer func() {
			if c.state == stateLingering {
				sh.lingering.remove(c.out)
			}
		}()
	}
	c.to(stateOf(to))
	if c.state == stateLingering {
		sh.lingering.remove(c.out)
	}
	c.giveBack()
}

func stateOf(name string) state {
	for i, n := range stateNames {
		if n == name {
			return state(i)
		}
	}
	panic("conn: no state " + name)
}

// StateNames are all states.
func StateNames() []string { return stateNames[:] }

// SetClock replaces the clock of the log lines.
func (b *Budget) SetClock(clock func() time.Duration) { b.clock = clock }

// HandlerOf is what the loop calls for c.
func HandlerOf(c *Conn) loop.Handler { return (*handler)(c) }
