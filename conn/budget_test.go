package conn_test

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv/fdtest"
)

// Past the limit on what waits for all clients together the slowest are evicted, on both loops, until it holds: counted,
// and told to their owners. Slowest are those that have taken nothing for the longest. Clients that read are untouched,
// and go on reading while it happens.
func TestBudgetEvictsTheSlowest(t *testing.T) {
	const (
		slowPerLoop = 20
		limit       = 600 << 10 // of about 2 * 20 * 64 KiB that would wait
	)
	r := newRig(t, 2, conn.Config{WriteTimeout: time.Hour}, limit)
	var fast []*probe
	var clients []net.Conn
	for i := range 6 {
		p := &probe{}
		clients = append(clients, r.open(i%2, p, both[i/2%2]))
		fast = append(fast, p)
	}
	send := func() { // an event for each that reads, and its arrival
		for i, p := range fast {
			at := 0
			r.on(i%2, func() {
				at = p.fed
				p.Queue(pattern(p.fed, event))
				p.fed += event
				p.Flush()
			})
			if _, err := readPattern(clients[i], at, event); err != nil {
				t.Fatal(err)
			}
		}
	}
	var slow [2][]*probe
	for i := range 2 * slowPerLoop {
		p := &probe{}
		r.open(i%2, p, both[i/2%2])
		// In the order in which they stall: each is full and paused before the next begins.
		feed := func() { p.feed(16<<10, 64<<20) } // so much at once that the kernel is full before the turn is spent
		p.onResumed = feed
		r.on(i%2, feed)
		sent, same := uint64(0), 0
		fdtest.Eventually(t, "the client to stall", func() (over bool) {
			r.on(i%2, func() {
				if same++; !p.IsPaused() || p.Pending() == 0 || p.Sent() != sent {
					sent, same = p.Sent(), 0
				}
				over = !p.Writable()
			})
			return over || same == 5
		})
		slow[i%2] = append(slow[i%2], p)
		send()
	}
	fdtest.Eventually(t, "the total to be back under the limit", func() bool { return r.budget.Pending() <= limit })
	send()
	r.turns(0, 1)
	r.turns(1, 1)
	evicted := uint64(0)
	for i, sh := range r.shards {
		n := sh.Counts().Evicted
		evicted += n
		if n == 0 || n == slowPerLoop {
			t.Errorf("%d of %d slow clients of loop %d were evicted", n, slowPerLoop, i)
		}
		r.on(i, func() {
			told := 0
			for _, p := range slow[i] {
				if errors.Is(p.cause, conn.ErrEvicted) {
					told++
				} else if p.cause != nil {
					t.Errorf("a slow client ended with %v", p.cause)
				}
			}
			if told != int(n) {
				t.Errorf("loop %d: %d evicted, %d told", i, n, told)
			}
			// A loopback kernel takes some bytes late, which may change the order of neighbours: the last that stalled
			// are there, the first is not.
			if slow[i][0].Writable() || !slow[i][slowPerLoop-1].Writable() {
				t.Errorf("loop %d: not the slowest were evicted", i)
			}
			for _, p := range fast {
				if p.shard == sh && !p.Writable() {
					t.Errorf("a client that reads ended with %v", p.cause)
				}
			}
		})
	}
	if waits := r.budget.Pending(); waits > limit || waits < limit/2 {
		t.Errorf("%d bytes wait, limit %d: %d evicted", waits, limit, evicted)
	}
}

// stall opens n conns on a Kernel that takes nothing, in order, each with bytes pending.
func stall(r *rig, i, n, bytes int) (all []*probe) {
	for range n {
		p := &probe{}
		r.openFD(i, p, noFD, false)
		r.on(i, func() { p.Queue(pattern(0, bytes)); p.Flush() })
		all = append(all, p)
	}
	return all
}

func full(int) (int, error) { return 0, unix.EAGAIN }

// Exactly the slowest go, in their order, and no more of them than the limit asks for; a client that takes a byte is
// the fastest again; lowering the limit holds from the next byte that waits.
func TestBudgetOrder(t *testing.T) {
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k}, 10*1000)
	r.on(0, func() { k.take = full })
	all := stall(r, 0, 10, 1000)
	var order []int
	r.on(0, func() {
		for i, p := range all {
			p.onEnded = func(error) { order = append(order, i) }
		}
		k.take = func(int) (int, error) { k.take = full; return 1, nil }
		conn.HandlerOf(&all[0].Conn).Writable() // now 9,999 wait
		all[9].Queue(pattern(0, 1001))
		all[9].Flush() // one more than 10,999: 1,000 too many
	})
	r.turns(0, 2)
	r.on(0, func() {
		if !slices.Equal(order, []int{1}) {
			t.Errorf("evicted: %v", order)
		}
	})
	r.budget.SetLimit(5001)
	r.turns(0, 2)
	r.on(0, func() {
		if len(order) != 1 {
			t.Errorf("evicted without a byte more: %v", order)
		}
		all[9].Queue(pattern(0, 1))
		all[9].Flush()
		if len(order) != 1 || all[9].StateName() == "closed" {
			t.Error("evicted from inside a Flush")
		}
	})
	r.turns(0, 2)
	r.on(0, func() {
		if !slices.Equal(order, []int{1, 2, 3, 4, 5, 6}) || r.budget.Pending() != 5001 {
			t.Errorf("evicted: %v, %d wait", order, r.budget.Pending())
		}
	})
	r.budget.SetLimit(-1) // means none may wait; it must not chase bytes that are not there
	r.on(0, func() { all[9].Queue(pattern(0, 1)); all[9].Flush() })
	fdtest.Eventually(t, "nothing to wait", func() bool { return r.budget.Pending() == 0 })
}

// A conn that waits with nothing pending (its turn was spent, and the client takes nothing more) may be the slowest of
// all: closing it would free nothing, so it is passed over.
func TestBudgetSparesThoseWithNothingPending(t *testing.T) {
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k}, 150)
	empty := &probe{}
	r.openFD(0, empty, noFD, false)
	r.on(0, func() { empty.feed(10, 1<<20); k.take = full })
	all := stall(r, 0, 2, 100)
	await(t, all[0].released, "the eviction")
	r.on(0, func() {
		if empty.StateName() != "paused" || all[1].StateName() != "open" || r.shards[0].Counts().Evicted != 1 {
			t.Errorf("%s, %s, %+v", empty.StateName(), all[1].StateName(), r.shards[0].Counts())
		}
	})
}

// Many at once: evictions come in bites, between which the loop does other things, and overload that goes on is one
// line a second, which says how many it speaks of.
func TestBudgetLog(t *testing.T) {
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
	var clock atomic.Int64
	r.budget.SetClock(func() time.Duration { return time.Duration(clock.Load()) })
	r.on(0, func() { k.take = full })
	overload := func(n int) {
		stall(r, 0, n, 100)
		r.budget.SetLimit(0)
		stall(r, 0, 1, 100)
		fdtest.Eventually(t, "nothing to wait", func() bool { return r.budget.Pending() == 0 })
		r.turns(0, 2)
		r.budget.SetLimit(plenty)
	}
	overload(1)
	clock.Store(int64(time.Second) - 1)
	overload(3)
	overload(3)
	if n := len(r.log.all()); n != 1 {
		t.Fatalf("%d lines in a second: %q", n, r.log.all())
	}
	clock.Store(int64(time.Second))
	overload(conn.ExpireTurn + 100)
	log := r.log.all()
	if len(log) != 2 || !strings.Contains(log[0], "level=WARN") || !strings.Contains(log[0], "limit_bytes=") {
		t.Fatalf("logged %q", log)
	}
	// What the first second withheld, and the first bite of this one; the rest is for the next line.
	if want := "evicted=" + strconv.Itoa(4+4+conn.ExpireTurn) + " "; !strings.Contains(log[1], want) {
		t.Errorf("no %q in %q", want, log[1])
	}
	if n := r.shards[0].Counts().Evicted; n != 2+4+4+conn.ExpireTurn+101 {
		t.Errorf("%d counted", n)
	}
}

// An owner that panics when it is told of its eviction costs its own conn only: the others are evicted too, then and
// later.
func TestBudgetOutlivesAPanic(t *testing.T) {
	captureLog(t)
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
	r.on(0, func() { k.take = full })
	for range 2 {
		all := stall(r, 0, 5, 100)
		r.on(0, func() { all[1].onEnded = func(error) { panic("at the end") } })
		r.budget.SetLimit(0)
		stall(r, 0, 1, 1)
		fdtest.Eventually(t, "nothing to wait", func() bool { return r.budget.Pending() == 0 })
		r.budget.SetLimit(plenty)
	}
}
