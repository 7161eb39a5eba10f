package conn_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"streaming-daemon-go/conn"
)

// One list and one timer stand behind the write timeout of every client of a loop: it is in the order in which the
// kernel last took a byte, and each conn ends in that order, not before its time. The rig's view of the list panics
// when it is out of order or its timer too late.
func TestWriteTimeoutsInOrder(t *testing.T) {
	const timeout = 120 * time.Millisecond
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k, WriteTimeout: timeout}, plenty)
	sh := r.shards[0]
	r.on(0, func() { k.take = full })
	all := stall(r, 0, 6, 1000)
	var order []int
	var since time.Duration
	r.after(0, timeout/4, func() {
		since = sh.Loop().Now()
		for i, p := range all {
			p.onEnded = func(error) { order = append(order, i) }
		}
		// The middle one takes a byte: it is last in line now, and has its full time again.
		k.take = func(int) (int, error) { k.take = full; return 1, nil }
		conn.HandlerOf(&all[2].Conn).Writable()
		all[4].Abort(errOver, true)
		// Bytes that are queued are no progress.
		all[0].Queue(pattern(0, 10))
		all[0].Flush()
		want := []*conn.Conn{&all[0].Conn, &all[1].Conn, &all[3].Conn, &all[5].Conn, &all[2].Conn}
		if got := sh.Blocked(); !slices.Equal(got, want) {
			t.Errorf("%d in the list, in another order", len(got))
		}
	})
	for _, p := range all {
		await(t, p.released, "the write timeout")
	}
	r.on(0, func() {
		if !slices.Equal(order, []int{4, 0, 1, 3, 5, 2}) {
			t.Errorf("ended in the order %v", order)
		}
		if d := all[2].endedAt - since; d < timeout {
			t.Errorf("the one that took a byte ended %v later, timeout %v", d, timeout)
		}
		for _, i := range []int{0, 1, 2, 3, 5} {
			if !errors.Is(all[i].cause, conn.ErrWriteTimeout) {
				t.Errorf("%d ended with %v", i, all[i].cause)
			}
		}
		if k.resets != 6 {
			t.Errorf("%d resets", k.resets)
		}
	})
}

// A shorter timeout holds for those that wait already, and a longer one too; the Kernel stays.
func TestReconfigure(t *testing.T) {
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k, WriteTimeout: time.Hour, LingerTimeout: time.Hour}, plenty)
	sh := r.shards[0]
	r.on(0, func() { k.take = full })
	all := stall(r, 0, 2, 1000)
	ending := &probe{}
	r.openFD(0, ending, noFD, false)
	r.on(0, func() {
		ending.Finish()
		if len(sh.Blocked()) != 2 || len(sh.Lingering()) != 1 {
			t.Errorf("%d wait, %d linger", len(sh.Blocked()), len(sh.Lingering()))
		}
		sh.Reconfigure(conn.Config{WriteTimeout: 10 * time.Millisecond, LingerTimeout: 10 * time.Millisecond})
		sh.Blocked() // the timers stand on the new deadlines at once
		sh.Lingering()
	})
	for _, p := range append(all, ending) {
		await(t, p.released, "the shorter timeout")
	}
	late := stall(r, 0, 1, 1000)[0] // on the same Kernel: the real one would refuse descriptor -1
	r.on(0, func() {
		if late.StateName() != "open" || late.Pending() != 1000 {
			t.Errorf("%s, pending %d", late.StateName(), late.Pending())
		}
		sh.Reconfigure(conn.Config{WriteTimeout: time.Hour})
	})
	r.turns(0, 3)
	await(t, all[1].ended, "the end")
}

// Many clients that stalled together run out of time together. They are closed in bites, so that what else happens on
// the loop does not wait for all of them; every one is closed.
func TestManyTimeoutsAtOnce(t *testing.T) {
	const timeout = 40 * time.Millisecond
	const n = 3*conn.ExpireTurn + 10
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k, WriteTimeout: timeout}, plenty)
	sh := r.shards[0]
	perTurn := map[time.Duration]int{}
	var all []*probe
	r.on(0, func() {
		k.take = full
		for range n {
			p := &probe{shard: sh, ended: make(chan struct{}), released: make(chan struct{})}
			if err := p.Open(sh, noFD, false, p); err != nil {
				t.Error(err)
				return
			}
			p.onEnded = func(error) { perTurn[sh.Loop().Now()]++ }
			p.Queue(pattern(0, 100))
			p.Flush()
			all = append(all, p)
		}
		r.probes = append(r.probes, all...)
	})
	for _, p := range all {
		await(t, p.released, "the write timeout")
	}
	r.on(0, func() {
		sum := 0
		for now, closed := range perTurn {
			if sum += closed; closed > conn.ExpireTurn {
				t.Errorf("%d closed in the turn at %v", closed, now)
			}
		}
		if sum != n || len(perTurn) < 4 {
			t.Errorf("%d of %d closed, in %d turns", sum, n, len(perTurn))
		}
	})
}

// An owner that panics while its client is expired does not keep the others from their deadline.
func TestTimeoutOutlivesAPanic(t *testing.T) {
	captureLog(t)
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k, WriteTimeout: time.Hour, LingerTimeout: time.Hour}, plenty)
	r.on(0, func() { k.take = full })
	all := stall(r, 0, 3, 100)
	r.on(0, func() {
		all[0].onEnded = func(error) { panic("at the end") }
		r.shards[0].Reconfigure(conn.Config{WriteTimeout: time.Millisecond})
	})
	for _, p := range all {
		await(t, p.released, "the write timeout")
	}
}
