package conn

import (
	"sync/atomic"
	"time"

	"streaming-daemon-go/loop"
)

// timeAt is a point on a loop's clock, or a length of it.
type timeAt = time.Duration

// Limits that are not settings: they keep one client from holding its loop, or a burst from holding memory.
const (
	flushSends   = 8         // send calls per Flush or Writable
	turnSends    = 64        // send calls per conn and turn (about 0.2 ms); past it the conn is paused until the next turn
	turnBytes    = 256 << 10 // bytes per conn and turn, likewise
	turnReads    = 4         // recv calls per conn and turn, 64 KiB each
	expireTurn   = 256       // conns closed for a timeout, or evicted, per tick
	outboxesKept = 256       // spare outboxes per shard: 1.8 MB at most, see copiesKept and piecesKept
)

// Config is what an operator can set. A zero field takes its default.
type Config struct {
	High          int           // bytes that wait for one client; at or above it its owner is paused. 64 KiB
	Low           int           // bytes; at or below it the owner is resumed. 16 KiB; at most a quarter of High
	WriteTimeout  time.Duration // without progress on waiting bytes, after which the client is closed. 30 s
	InputMax      int           // bytes that a client may send after the handoff. 4 MiB
	LingerTimeout time.Duration // for the client to close after the last byte. 2 s
	LingerBytes   int           // bytes that it may still send by then. 256 KiB
	Kernel        Kernel        // nil: the real one
}

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	setDefault(&c.High, 64<<10)
	setDefault(&c.Low, 16<<10)
	c.Low = min(c.Low, c.High/4) // below High, and by so much that a pause is worth the calls it costs
	setDefault(&c.WriteTimeout, 30*time.Second)
	setDefault(&c.InputMax, 4<<20)
	setDefault(&c.LingerTimeout, 2*time.Second)
	setDefault(&c.LingerBytes, 256<<10)
	if c.Kernel == nil {
		c.Kernel = linux{}
	}
	return c
}

func setDefault[T int | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// Shard is what the conns of one loop share: settings, spare outboxes, the lists behind the deadlines, counts.
type Shard struct {
	loop   *loop.Loop // immutable
	budget *Budget    // immutable

	// owned by the loop
	cfg       Config
	blocked   waitList // conns that wait for Writable, slowest first
	lingering waitList
	free      *outbox // spare ones, linked by next
	freeLen   int
	turnConn  *Conn  // who wrote last, with how much of its share of the turn it has used
	turnAt    timeAt // the turn meant by the next two
	turnBytes int
	turnSends int
	gather    [gatherMax]byte // lent to one send at a time
	drop      [64 << 10]byte

	counts  counts
	pending atomic.Int64 // bytes of this shard's conns that the budget knows of
}

// counts has one writer, the loop, and any number of readers.
type counts struct {
	open    atomic.Int64 // descriptors held
	paused  atomic.Int64
	bytes   atomic.Uint64
	evicted atomic.Uint64
}

// Counts is what a Shard has counted.
type Counts struct {
	Open, Paused   int64  // conns now
	Pending        int64  // bytes now
	Bytes, Evicted uint64 // since the start
}

// NewShard makes the shard of one loop and adds it to the budget. Any goroutine; before the loop's first Conn.
func NewShard(l *loop.Loop, cfg Config, b *Budget) *Shard {
	sh := &Shard{loop: l, budget: b, cfg: cfg.WithDefaults()}
	sh.blocked.init(l, func() timeAt { return sh.cfg.WriteTimeout }, func(o *outbox) { o.conn.Abort(ErrWriteTimeout, true) })
	sh.lingering.init(l, func() timeAt { return sh.cfg.LingerTimeout }, func(o *outbox) { o.conn.Abort(nil, false) })
	b.join(sh)
	return sh
}

// Loop is the loop that the shard belongs to. Any goroutine.
func (sh *Shard) Loop() *loop.Loop { return sh.loop }

// Counts reads what the shard has counted. Any goroutine.
func (sh *Shard) Counts() Counts {
	return Counts{
		Open:    sh.counts.open.Load(),
		Paused:  sh.counts.paused.Load(),
		Pending: sh.pending.Load(),
		Bytes:   sh.counts.bytes.Load(),
		Evicted: sh.counts.evicted.Load(),
	}
}

// Reconfigure sets new limits for the shard's conns, those that are open included (their TCP_USER_TIMEOUT stays as it
// was). The Kernel stays too, whatever cfg says. Loop goroutine only.
func (sh *Shard) Reconfigure(cfg Config) {
	cfg.Kernel = sh.cfg.Kernel // every open conn depends on it
	sh.cfg = cfg.WithDefaults()
	for _, w := range []*waitList{&sh.blocked, &sh.lingering} { // a shorter timeout must not wait for the old one
		if w.first != nil {
			sh.loop.Arm(&w.timer, w.first.since+w.timeout())
		}
	}
}

// evict closes the slowest clients (the longest without progress) until the budget holds or none waits here. What is
// left to do after expireTurn of them is for another turn.
func (sh *Shard) evict() {
	for range expireTurn {
		o := sh.blocked.first
		for o != nil && o.pending == 0 { // paused by the turn, and the client takes nothing: closing it would free nothing
			o = o.next
		}
		if o == nil || !sh.budget.exceeded() {
			return
		}
		sh.counts.evicted.Add(1)
		o.conn.Abort(ErrEvicted, true)
	}
}
