package conn

import (
	"log/slog"
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
	relief   atomic.Bool  // true exactly while an eviction is posted
	lastLog  atomic.Int64 // Unix seconds
	unlogged atomic.Int64 // clients evicted since lastLog
	log      *slog.Logger

	mu     sync.Mutex
	shards []*Shard // guarded by mu; join only adds
}

// NewBudget makes a budget of limit bytes. log hears of evictions, at most once a second.
func NewBudget(limit int64, log *slog.Logger) *Budget {
	b := &Budget{log: log}
	b.limit.Store(limit)
	return b
}

// SetLimit changes the limit; it holds from the next byte that waits.
func (b *Budget) SetLimit(limit int64) { b.limit.Store(limit) }

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
	b.mu.Lock()
	most := b.shards[0]
	for _, sh := range b.shards[1:] {
		if sh.pending.Load() > most.pending.Load() {
			most = sh
		}
	}
	b.mu.Unlock()
	err := most.loop.Post(func() {
		n := most.evict()
		b.relief.Store(false)
		b.tell(n)
		if b.exceeded() && n > 0 { // what is left may be elsewhere by now
			b.relieve()
		}
	})
	if err != nil { // the loop is closed: nothing waits there any more
		b.relief.Store(false)
	}
}

// tell logs evictions, at most once a second: overload must not become a flood of lines.
func (b *Budget) tell(evicted int) {
	if evicted == 0 {
		return
	}
	n := b.unlogged.Add(int64(evicted))
	now, last := time.Now().Unix(), b.lastLog.Load()
	if now == last || !b.lastLog.CompareAndSwap(last, now) {
		return
	}
	b.unlogged.Add(-n)
	b.log.Warn("too many bytes wait for slow clients: the slowest were evicted (-max-pending-bytes)",
		"evicted", n, "pending_bytes", b.total.Load(), "limit_bytes", b.limit.Load())
}
