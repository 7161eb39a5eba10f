package stream

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
)

// Config is what a Server needs. NewBackend and Log must be set. Reconfigure says what can change later.
type Config struct {
	NewBackend        Maker // for handoffs whose Origin has none
	Conn              conn.Config
	MaxConnections    int           // streams at a time, those whose client still closes included
	RejectReserve     int           // clients being refused at a time, beside MaxConnections; past it they are closed
	RejectSSE         bool          // past MaxConnections: a 200 with an `overloaded` event, not a 503
	RetryAfter        time.Duration // what a client past MaxConnections is told to wait
	MaxPendingBytes   int64         // that wait for all clients together
	HeartbeatInterval time.Duration // 0: no heartbeats
	MaxStreamDuration time.Duration // 0: no limit
	KeepAccess        bool          // remember of each client what End.Access has: some 150 bytes each, and the ids
	Log               *slog.Logger  // must not block

	// Each is called on a loop, must not block, and may be nil.
	FirstByte  func(d time.Duration) // since the handoff was accepted; once per stream
	Ended      func(e End)           // once per stream
	Rejected   func(e End)           // once per client refused without a stream, when its answer is out or given up
	OpenFailed func(err error)       // a client was lost: the kernel refused what we need for it
}

// End is how a stream ended.
type End struct {
	Duration time.Duration // since the handoff was accepted
	Events   uint64
	Bytes    uint64  // that the kernel took, head included
	Cause    error   // nil: by itself, and the kernel took every byte; of a rejection, why it was one
	Access   *Access // nil: KeepAccess was not set when the client came. It belongs to who is told
}

// Counts is the state of a Server, summed over its loops.
type Counts struct {
	Connections int64   // client sockets held now: streams, clients being refused, and clients that still close
	Streams     int64   // streams open now
	Peak        int64   // the most streams that were open at a time
	Paused      int64   // streams paused now
	Pending     int64   // bytes that wait for all clients
	PerLoop     []int64 // streams placed on each loop
	Bytes       uint64
	Events      uint64
	Evicted     uint64
	Rejected    uint64 // clients refused, whatever the reason
	Cut         uint64 // streams still open at the end of the drain
}

// Server places clients on loops and makes their streams.
type Server struct {
	shards []*shard
	budget *conn.Budget

	held      atomic.Int64 // admitted clients whose descriptors are not gone yet
	rejecting atomic.Int64 // likewise refused ones
	rejected  atomic.Uint64
	active    atomic.Int64 // streams open now, over all loops: for peak
	peak      atomic.Int64
	cut       atomic.Uint64
}

// NewServer makes a server over all loops of a pool. Any goroutine.
func NewServer(pool *loop.Pool, cfg Config) *Server {
	s := &Server{budget: conn.NewBudget(cfg.MaxPendingBytes, cfg.Log)}
	for _, l := range pool.Loops() {
		s.shards = append(s.shards, &shard{server: s, loop: l, cfg: &cfg, conns: conn.NewShard(l, cfg.Conn, s.budget)})
	}
	return s
}

// Handoff is HandoffFrom without an Origin.
func (s *Server) Handoff(index int, h fdrecv.Handoff) { s.HandoffFrom(index, h, &Origin{}) }

// HandoffFrom takes a handoff, whatever its outcome, and its client: the client gets a stream or an answer. It is called
// on the loop with the given index, the one that received.
func (s *Server) HandoffFrom(index int, h fdrecv.Handoff, from *Origin) {
	here := s.shards[index]
	if h.Err != nil {
		if h.Client.Valid() {
			s.refuse(here, h, from, rejecting{cause: h.Err, refusal: refusalFor(h.Err), encode: appendRefusal})
		}
		return
	}
	if s.held.Add(1) > int64(here.cfg.MaxConnections) {
		s.held.Add(-1)
		why := rejecting{cause: ErrFull, refusal: here.cfg.overloaded(), encode: appendRefusal}
		if here.cfg.RejectSSE {
			why.encode, why.status = appendOverloaded, http.StatusOK
		}
		s.refuse(here, h, from, why)
		return
	}
	there := s.place(here)
	there.load.Add(1)
	if there == here {
		here.open(h, from)
		return
	}
	if err := there.loop.Post(func() { there.open(h, from) }); err != nil {
		_ = h.Client.Close() // the process is past its drain
		s.released(there)
	}
}

// place chooses the loop with the fewest streams; the receiving one when it is among them, which saves a wake-up.
func (s *Server) place(here *shard) *shard {
	best, least := here, here.load.Load()
	for _, sh := range s.shards {
		if n := sh.load.Load(); n < least {
			best, least = sh, n
		}
	}
	return best
}

// refuse answers a client without a stream, as long as the reserve for that lasts.
func (s *Server) refuse(here *shard, h fdrecv.Handoff, from *Origin, why rejecting) {
	s.rejected.Add(1)
	if s.rejecting.Add(1) > int64(here.cfg.RejectReserve) {
		s.rejecting.Add(-1)
		_ = h.Client.Close()
		r := rejection{shard: here, cause: why.cause, accepted: h.AcceptedAt, headSent: h.HeadSent,
			access: here.newAccess(h, from)}
		r.tell()
		return
	}
	here.refuse(h, from, why)
}

// released is called when an admitted client's descriptor is gone.
func (s *Server) released(sh *shard) {
	sh.load.Add(-1)
	s.held.Add(-1)
}

// Held is how many clients hold a descriptor now, those being refused included. Any goroutine.
func (s *Server) Held() int64 { return s.held.Load() + s.rejecting.Load() }

// Counts reads the state. Any goroutine.
func (s *Server) Counts() Counts {
	c := Counts{
		Peak:     s.peak.Load(),
		Rejected: s.rejected.Load(),
		Cut:      s.cut.Load(),
	}
	for _, sh := range s.shards {
		n := sh.conns.Counts()
		c.Connections += n.Open
		c.Paused += n.Paused
		c.Pending += n.Pending
		c.Bytes += n.Bytes
		c.Evicted += n.Evicted
		c.Streams += sh.counts.active.Load()
		c.Events += sh.counts.events.Load()
		c.PerLoop = append(c.PerLoop, sh.load.Load())
	}
	return c
}

// notePeak is called when a stream has begun.
func (s *Server) notePeak() {
	now := s.active.Add(1)
	for {
		peak := s.peak.Load()
		if now <= peak || s.peak.CompareAndSwap(peak, now) {
			return
		}
	}
}
