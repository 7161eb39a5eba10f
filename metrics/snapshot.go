package metrics

import (
	"fmt"
	"math"
)

// Snapshot is what the rest of the process counts, summed over its loops at
// one scrape. It is a plain value: the slices in it belong to the scrape that
// asked, so the read function returns fresh ones, or ones nobody writes to.
//
// The uint64 fields only ever grow while the process lives. The zero value is
// an idle daemon.
type Snapshot struct {
	ActiveConnections int64 // client sockets held now; 0 when idle
	ActiveStreams     int64 // streams between their head and their last byte
	PeakStreams       int64 // highest ActiveStreams since the start
	PausedStreams     int64 // streams whose backend is paused: pending reached the high watermark
	PendingBytes      int64 // bytes accepted for clients, not yet in the kernel

	Connections uint64 // handoff connections accepted
	Rejected    uint64 // handoffs refused, over a limit or unusable
	Handoffs    uint64 // descriptors received with a usable payload
	BytesSent   uint64 // every byte written to clients, head included
	EventsSent  uint64 // events written to clients
	Evicted     uint64 // clients closed because pending bytes of all together passed the cap

	AccessLogDropped uint64 // lines of the access log that were lost

	HandoffErrors [NumReasons]uint64
	StreamErrors  [NumReasons]uint64

	LoopStreams []int64 // streams on each loop, by loop number
	LoopLag     Buckets // how late timers and posted functions ran

	Backends []Backend // those that call an upstream and are configured

	Draining       bool  // no new handoffs, streams are ending
	MaxConnections int64 // client sockets held at most: -max-connections, or what the open files limit can carry
}

// Backend is what one kind of backend counts that calls an upstream. Each has
// a place in the Snapshot from the start, or never.
type Backend struct {
	Name     string // the label
	Requests uint64 // asked of it, those that it refused included
	Errors   []BackendErrors
	Tokens   uint64 // pieces of text relayed
	Streams  int64  // requests under way now
	Open     int64  // connections to upstreams now
	Idle     int64  // of these, without a request
}

// BackendErrors is how many requests ended for one reason. The reasons are the
// backend's own closed set, of which each is listed always.
type BackendErrors struct {
	Reason string
	Count  uint64
}

// Buckets is a histogram that was counted elsewhere.
//
// Counts[i] is the number of observations in (UpperSeconds[i-1],
// UpperSeconds[i]]; it is not cumulative. There is one more count than there
// are bounds: the last one is what lies above every bound. Bounds are finite
// and strictly increasing. The zero value is a histogram with no bounds and no
// observations.
type Buckets struct {
	UpperSeconds []float64
	Counts       []uint64
	SumSeconds   float64
}

// mustHold panics when b cannot be exposed without telling a lie: that is a
// bug in the read function, and the first scrape of any test finds it.
func (b Buckets) mustHold() {
	if len(b.UpperSeconds) == 0 && len(b.Counts) == 0 {
		return
	}
	if len(b.Counts) != len(b.UpperSeconds)+1 {
		panic(fmt.Sprintf("metrics: %d counts for %d bounds, want one more count than bounds", len(b.Counts), len(b.UpperSeconds)))
	}
	for i, upper := range b.UpperSeconds {
		if math.IsNaN(upper) || math.IsInf(upper, 0) || i > 0 && upper <= b.UpperSeconds[i-1] {
			panic(fmt.Sprintf("metrics: bounds %v are not finite and strictly increasing", b.UpperSeconds))
		}
	}
}
