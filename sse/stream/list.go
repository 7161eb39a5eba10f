package stream

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// ListMax is the most streams that one List gives: about a quarter of a megabyte.
const ListMax = 1000

// Order says which streams a List begins with.
type Order uint8

const (
	ByPending Order = iota // most pending bytes first: the slowest clients
	ByAge                  // oldest first
	ByIdle                 // the longest without an event or a heartbeat first
	ByBytes                // most bytes first
	ByEvents               // most events first
	numOrders
)

var orderNames = [numOrders]string{"pending", "age", "idle", "bytes", "events"}

func (o Order) String() string { return orderNames[o] }

// ParseOrder gives the Order of a name; ok is false when there is none.
func ParseOrder(name string) (o Order, ok bool) {
	i := slices.Index(orderNames[:], name)
	return Order(max(i, 0)), i >= 0
}

// compare is for sorting: negative when a comes before b. Among equals the older one does.
func (o Order) compare(a, b *Info) int {
	byAge := cmp.Compare(b.Age, a.Age)
	switch o {
	case ByPending:
		return cmp.Or(cmp.Compare(b.Pending, a.Pending), byAge)
	case ByIdle:
		return cmp.Or(cmp.Compare(b.Idle, a.Idle), byAge)
	case ByBytes:
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), byAge)
	case ByEvents:
		return cmp.Or(cmp.Compare(b.Events, a.Events), byAge)
	default:
		return byAge
	}
}

// Query says which open streams a List has.
type Query struct {
	Limit     int    // how many at most; 1 to ListMax
	Order     Order  // which come first
	State     string // an Info.State; "": any
	UserID    string // likewise; without Config.KeepAccess no stream has one
	RequestID string
}

func (q *Query) fits(i *Info) bool {
	return (q.State == "" || q.State == i.State) && (q.UserID == "" || q.UserID == i.UserID) &&
		(q.RequestID == "" || q.RequestID == i.RequestID)
}

// Info is what one stream looks like from outside.
type Info struct {
	Loop    int
	Age     time.Duration // from the accept of the handoff to the call of List; 0 when it came during the call
	Idle    time.Duration // from the last event or heartbeat that was queued, or the stream's begin, likewise
	State   string        // held (no head yet: its backend may still refuse), open, paused, flushing
	Bytes   uint64        // that the kernel took, head included
	Events  uint64        // sent by the backend
	Pending int           // bytes that wait for the client

	// Zero where Config.KeepAccess was not set when the client came.
	Client    netip.AddrPort
	UserID    string // cut to 256 bytes, and unchecked: escape it; likewise RequestID
	RequestID string
	Backend   string
}

// States are the values of Info.State.
var States = []string{"held", "open", "paused", "flushing"}

// Listing is what List found.
type Listing struct {
	Streams []Info // in the order asked for
	Matched int    // streams that the query fits, those past its limit included
	Silent  []int  // loops that stopped answering: their streams are missing, all or some
}

// List finds open streams. It blocks: each loop looks at its streams a few hundred at a time, in functions posted one
// after the other, and does no more than copy, so that no client waits for it. A loop that leaves one of these
// functions unanswered for patience is given up and named.
//
// What it gives is no instant: parts are looked at one after another while streams go on. A stream that is open during
// the whole call is in it; while others end, Matched may count one twice.
//
// Any goroutine but a loop's. Several at a time cost the loops several times the work: the caller bounds that.
func (s *Server) List(q Query, patience time.Duration) Listing {
	q.Limit = min(max(q.Limit, 1), ListMax)
	walks := make([]*walk, len(s.shards))
	done := make([]chan struct{}, len(s.shards))
	now := s.shards[0].loop.Clock()
	for i, sh := range s.shards {
		w, d := &walk{shard: sh, query: q, at: now}, make(chan struct{})
		walks[i], done[i] = w, d
		go func() {
			defer close(d)
			w.run(patience)
		}()
	}
	var found Listing
	for i, w := range walks {
		<-done[i]
		if w.silent {
			found.Silent = append(found.Silent, i)
		}
		found.Matched += w.matched
		for j := range w.kept {
			found.Streams = append(found.Streams, w.kept[j].Info)
		}
	}
	slices.SortStableFunc(found.Streams, func(a, b Info) int { return q.Order.compare(&a, &b) })
	found.Streams = found.Streams[:min(len(found.Streams), q.Limit)]
	return found
}
