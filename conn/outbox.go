package conn

import "streaming-daemon-go/loop"

// outbox holds what waits for one client. A Conn borrows one from its shard for as long as something waits (and while
// it is paused or lingers, for the place in the shard's list), so that an idle client costs none. Loop goroutine only.
type outbox struct {
	conn      *Conn
	pieces    [][]byte // what waits, from first on; immutable bytes, or parts of a block of copies
	first     int
	copies    []byte // the block that QueueCopy fills; fuller ones are held by their pieces alone
	pending   int    // bytes in pieces
	accounted int    // bytes of pending that the budget knows of

	tailCopy bool   // true exactly when the last piece ends where copies ends: the next copy makes it longer
	blocked  bool   // true exactly while in shard.blocked: Writable will go on
	since    timeAt // when the kernel last took a byte (or the wait began); since lingering
	prev     *outbox
	next     *outbox
}

// Sizes of a block of copies, in bytes: the first one holds a response head and an event; each further one is twice
// as large, up to what an outbox takes back to the pool.
const (
	copiesMin  = 512
	copiesKept = 4 << 10
)

// piecesKept bounds the piece list that goes back to the pool (24 bytes each).
const piecesKept = 128

// add takes b, which nobody writes to again.
func (o *outbox) add(b []byte) {
	if len(b) == 0 {
		return
	}
	// A client that is always a little behind never empties its outbox: what was sent must make room, or the list
	// would grow by every event of the stream.
	if len(o.pieces) == cap(o.pieces) && o.first > len(o.pieces)/2 {
		n := copy(o.pieces, o.pieces[o.first:])
		clear(o.pieces[n:])
		o.pieces, o.first = o.pieces[:n], 0
	}
	o.pieces = append(o.pieces, b)
	o.pending += len(b)
	o.tailCopy = false
}

// addCopy takes a copy of b. Blocks never move, and go with the last piece in them. Copies in a row are one piece:
// thousands of small events for a slow client leave in few calls.
func (o *outbox) addCopy(b []byte) {
	if len(b) == 0 {
		return
	}
	if cap(o.copies)-len(o.copies) < len(b) {
		o.copies = make([]byte, 0, max(len(b), copiesMin, min(2*cap(o.copies), copiesKept)))
		o.tailCopy = false
	}
	o.copies = append(o.copies, b...)
	end := len(o.copies)
	if !o.tailCopy {
		o.add(o.copies[end-len(b) : end : end])
		o.tailCopy = true
		return
	}
	last := &o.pieces[len(o.pieces)-1]
	*last = o.copies[end-len(b)-len(*last) : end : end]
	o.pending += len(b)
}

// gatherMax is up to how many bytes pieces are copied together for one send(2): cheaper than a sendmsg(2) of several.
const gatherMax = 2 << 10

// send offers the first pieces to the kernel in one call and says how many bytes it took.
func (o *outbox) send(fd int, k Kernel) (int, error) {
	waiting := o.pieces[o.first:]
	if len(waiting) == 1 {
		return k.Send(fd, waiting[0])
	}
	if o.pending > gatherMax {
		return k.Sendv(fd, waiting)
	}
	all := o.conn.shard.gather[:0]
	for _, p := range waiting {
		all = append(all, p...)
	}
	return k.Send(fd, all)
}

// advance takes n sent bytes off the front: a short write ends inside a piece.
func (o *outbox) advance(n int) {
	o.pending -= n
	for n > 0 {
		p := o.pieces[o.first]
		if n < len(p) {
			o.pieces[o.first] = p[n:]
			return
		}
		n -= len(p)
		o.pieces[o.first] = nil // the bytes may be the last reference to an event
		o.first++
	}
	if o.first == len(o.pieces) {
		o.pieces, o.first, o.copies, o.tailCopy = o.pieces[:0], 0, o.copies[:0], false
	}
}

// account tells the budget what has changed since the last time.
func (o *outbox) account(sh *Shard) {
	if delta := o.pending - o.accounted; delta != 0 {
		o.accounted = o.pending
		sh.budget.add(sh, int64(delta))
	}
}

// borrow gives c an outbox if it has none.
func (c *Conn) borrow() {
	if c.out != nil {
		return
	}
	sh := c.shard
	o := sh.free
	if o == nil {
		o = &outbox{}
	} else {
		sh.free, o.next = o.next, nil
		sh.freeLen--
	}
	o.conn = c
	c.out = o
}

// giveBack returns the outbox, with what it still holds.
func (c *Conn) giveBack() {
	o, sh := c.out, c.shard
	if o == nil {
		return
	}
	if o.blocked {
		sh.blocked.remove(o)
		o.blocked = false
	}
	o.pending = 0
	o.account(sh)
	clear(o.pieces)
	c.out = nil
	if sh.freeLen >= outboxesKept {
		return
	}
	if cap(o.copies) > copiesKept {
		o.copies = nil
	}
	if cap(o.pieces) > piecesKept {
		o.pieces = nil
	}
	*o = outbox{pieces: o.pieces[:0], copies: o.copies[:0], next: sh.free}
	sh.free = o
	sh.freeLen++
}

// waitList is a list of outboxes in the order of their since, so that one timer per shard serves every client: the
// first one is the next to run out of time, and the slowest. Loop goroutine only.
type waitList struct {
	loop        *loop.Loop
	timer       loop.Timer
	timeout     func() timeAt   // may change at run time
	expire      func(o *outbox) // must take o off the list
	first, last *outbox
}

// init makes w ready; it is the timer's Firer.
func (w *waitList) init(l *loop.Loop, timeout func() timeAt, expire func(*outbox)) {
	w.loop, w.timeout, w.expire = l, timeout, expire
	w.timer.Firer = w
}

// push adds o, whose since is now, at the end. A timer that is armed for an earlier client is left alone.
func (w *waitList) push(o *outbox) {
	o.prev, o.next = w.last, nil
	if w.last != nil {
		w.last.next = o
	} else {
		w.first = o
	}
	w.last = o
	if !w.timer.Armed() {
		w.loop.Arm(&w.timer, w.first.since+w.timeout())
	}
}

func (w *waitList) remove(o *outbox) {
	if o.prev != nil {
		o.prev.next = o.next
	} else {
		w.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	} else {
		w.last = o.prev
	}
	o.prev, o.next = nil, nil
}

// Fire expires whoever has run out of time and arms for the next one. Not more than expireTurn at once: the rest
// follows at the next tick, so that a thousand clients that stalled together do not stall those of the loop that live.
func (w *waitList) Fire() {
	for range expireTurn {
		if w.first == nil || w.first.since+w.timeout() > w.loop.Now() {
			break
		}
		w.expire(w.first)
	}
	if w.first != nil {
		w.loop.Arm(&w.timer, w.first.since+w.timeout())
	}
}

// Failed: an owner panicked while its client was expired. The others still need their deadline.
func (w *waitList) Failed(error) {
	if w.first != nil {
		w.loop.Arm(&w.timer, w.loop.Now())
	}
}
