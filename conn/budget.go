package conn

import (
	"cmp"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Budget bounds the bytes that wait for all clients of all shards together (bytes per client: an event that waits in
// ten thousand outboxes counts ten thousand times). Past the limit the slowest clients of the shard with the most are
// evicted, in a turn of its own: never from inside a Queue or Flush. Any goroutine.
type Budget struct {
	limit    atomic.Int64
	total    atomic.Int64
	relief   atomic.Bool // true exactly while an eviction is posted
	log      *slog.Logger
	clock    func() time.Duration // since the budget was made
	nextLog  atomic.Int64         // on that clock, nanoseconds: not another line before
	unlogged atomic.Int64         // clients evicted since the last line

	mu     sync.Mutex
	shards []*Shard // guarded by mu; join only adds
}

// NewBudget makes a budget of limit bytes; at 0 nobody may wait. log hears of evictions, at most once a second; it must
// not block.
func NewBudget(limit int64, log *slog.Logger) *Budget {
	start := time.Now()
	b := &Budget{log: log, clock: func() time.Duration { return time.Since(start) }}
	b.SetLimit(limit)
	return b
}

// SetLimit changes the limit; it holds from the next byte that waits.
func (b *Budget) SetLimit(limit int64) { b.limit.Store(max(0, limit)) }

// Pending is how many bytes wait for all clients.
func (b *Budget) Pending() int64 { return b.total.Load() }

func (b *Budget) join(sh *Shard) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.shards = append(b.shards, sh)
}

func (b *Budget) exceeded() bool { return b.total.Load() > b.limit.Load() }

// add is called by a shard's loop when what waits there has changed.
func (b *Budget) add(sh *Shard, delta int64) {
	sh.pending.Add(delta)
	b.total.Add(delta)
	if delta > 0 && b.exceeded() {
		b.relieve()
	}
}

// relieve posts an eviction to the shard with the most waiting bytes.
func (b *Budget) relieve() {
	if !b.relief.CompareAndSwap(false, true) {
		return
	}
	most := b.most()
	err := most.loop.Post(func() {
		before := most.counts.evicted.Load()
		defer func() { // also when an owner panics, or nobody would be evicted ever again
			b.relief.Store(false)
			b.tell(most.counts.evicted.Load() - before)
			// Some may be left to do, here or elsewhere by now. And a loop that went past the limit since evict last
			// looked has found relief set and left it to us.
			if b.exceeded() {
				b.relieve()
			}
		}()
		most.evict()
	})
	if err != nil { // the loop is closed: nothing waits there any more
		b.relief.Store(false)
	}
}

// most is the shard with the most waiting bytes.
func (b *Budget) most() *Shard {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.MaxFunc(b.shards, func(x, y *Shard) int { return cmp.Compare(x.pending.Load(), y.pending.Load()) })
}

// tell logs evictions, at most once a second: overload must not become a flood of lines.
func (b *Budget) tell(evicted uint64) {
	if evicted == 0 {
		return
	}
	n := b.unlogged.Add(int64(evicted))
	now, next := b.clock(), b.nextLog.Load()
	if int64(now) < next || !b.nextLog.CompareAndSwap(next, int64(now+time.Second)) {
		return
	}
	b.unlogged.Add(-n)
	b.log.Warn("too many bytes wait for slow clients: the slowest were evicted (-max-pending-bytes)",
		"evicted", n, "pending_bytes", b.total.Load(), "limit_bytes", b.limit.Load())
}
