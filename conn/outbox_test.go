package conn_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
)

// checkOps runs a program of bytes against a conn on a Kernel without descriptors, and holds it to what a client may
// rely on: it gets what was queued, in order, each byte once, whatever short writes the kernel takes; and to what the
// rest of the daemon relies on: pending is what is queued and not sent, the budget knows it, shared bytes are never
// written to. The program's bytes say what to do next and, after that, how much the kernel takes of each offer.
func checkOps(r *rig, k *sink, cfg conn.Config, ops []byte) (failed error) {
	fail := func(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
	sh := r.shards[0]
	next := func() int {
		if len(ops) == 0 {
			return 0
		}
		b := int(ops[0])
		ops = ops[1:]
		return b
	}
	*k = sink{keep: true, take: func(offered int) (int, error) {
		switch b := next(); {
		case b%4 == 0 && len(ops) > 0:
			return 0, unix.EAGAIN
		case b%4 == 1 && len(ops) > 0:
			return 1 + (b*131)%offered, nil
		default:
			return offered, nil
		}
	}}
	p := &probe{shard: sh, ended: make(chan struct{}), released: make(chan struct{}), paused: make(chan struct{}, 1), resumed: make(chan struct{}, 1)}
	if err := p.Open(sh, noFD, false, p); err != nil {
		return err
	}
	defer func() {
		p.Abort(errOver, false)
		if v := recover(); v != nil {
			failed = fmt.Errorf("%v", v) // ours, or a panic of the code: both end the program of bytes
		}
	}()
	var want []byte
	scratch := make([]byte, 0, 16<<10)
	check := func(flushed bool) {
		if n := len(want) - len(k.got); n != p.Pending() {
			fail("%d bytes queued and not sent, %d pending", n, p.Pending())
		}
		if p.Sent() != uint64(len(k.got)) {
			fail("sent %d, the kernel took %d", p.Sent(), len(k.got))
		}
		if p.mostResumed > cfg.Low {
			fail("resumed with %d pending", p.mostResumed)
		}
		if !flushed {
			return
		}
		if n := int(sh.Counts().Pending); n != p.Pending() || r.budget.Pending() != int64(n) {
			fail("%d pending, the shard counts %d, the budget %d", p.Pending(), n, r.budget.Pending())
		}
		if p.StateName() == "open" && p.Pending() >= cfg.High {
			fail("open with %d pending", p.Pending())
		}
		if waits := len(sh.Blocked()) == 1; waits != (p.Pending() > 0 || p.StateName() == "paused") {
			fail("%s with %d pending, in the list: %t", p.StateName(), p.Pending(), waits)
		}
	}
	writable := conn.HandlerOf(&p.Conn).Writable
	for len(ops) > 0 {
		switch op := next(); op % 8 {
		case 0, 1:
			b := pattern(len(want), 1+next()*next()%(5<<10))
			p.Queue(b)
			want = append(want, b...)
			check(false)
		case 2, 3, 4:
			scratch = append(scratch[:0], pattern(len(want), 1+next()*(1+op/64))...)
			p.QueueCopy(scratch)
			want = append(want, scratch...)
			for i := range scratch { // the caller uses its buffer again
				scratch[i] = 0xff
			}
			check(false)
		case 5, 6:
			p.Flush()
			check(true)
		default:
			p.Flush()
			writable()
			check(true)
		}
	}
	p.Finish()
	for range 1000 {
		if p.StateName() == "lingering" {
			break
		}
		writable()
	}
	if p.StateName() != "lingering" || !k.shut || p.cause != nil {
		fail("%s, shut %t, %v at the end", p.StateName(), k.shut, p.cause)
	}
	if !bytes.Equal(k.got, want) {
		fail("the client got %d bytes, other than the %d queued", len(k.got), len(want))
	}
	for i, b := range patternBytes[:64<<10] {
		if b != byte(i%period) {
			fail("shared byte %d was written to", i)
		}
	}
	return nil
}

var opsConfig = conn.Config{High: 8 << 10, Low: 2 << 10}

// Goal: whatever is queued arrives, for any order of calls and any short writes. Method: checkOps on seeded programs,
// replayable by their seed.
func TestAnyOrderOfCalls(t *testing.T) {
	k := &sink{}
	cfg := opsConfig
	cfg.Kernel = k
	r := newRig(t, 1, cfg, plenty)
	for seed := range uint64(2000) {
		random := rand.New(rand.NewPCG(seed, 1))
		ops := make([]byte, 1+random.IntN(400))
		for i := range ops {
			ops[i] = byte(random.UintN(256))
		}
		var err error
		r.on(0, func() { err = checkOps(r, k, opsConfig, ops) })
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

func FuzzAnyOrderOfCalls(f *testing.F) {
	for seed := range uint64(8) {
		random := rand.New(rand.NewPCG(seed, 2))
		ops := make([]byte, 64<<(seed%3))
		for i := range ops {
			ops[i] = byte(random.UintN(256))
		}
		f.Add(ops)
	}
	k := &sink{}
	cfg := opsConfig
	cfg.Kernel = k
	r := makeRig(f, 1, cfg, plenty) // without the count of goroutines: the fuzzing engine keeps some of its own
	f.Fuzz(func(t *testing.T, ops []byte) {
		var err error
		in := &rig{TB: t, shards: r.shards}
		ops = ops[:min(len(ops), 4<<10)] // longer ones queue gigabytes, and find no more
		in.on(0, func() { err = checkOps(r, k, opsConfig, ops) })
		if err != nil {
			t.Fatal(err)
		}
	})
}

// The same over a real socket, with real readiness, a mix of shared and copied bytes, and a Kernel that offers only a
// random part of each send, or says EAGAIN though it is not true.
func TestShortWrites(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		m := newMeddler()
		r := newRig(t, 1, conn.Config{Kernel: m}, plenty)
		for seed := range uint64(5) {
			const total = 1 << 20
			random := rand.New(rand.NewPCG(seed, 3))
			m.limit = func(offered int) (int, error) {
				switch random.IntN(8) {
				case 0:
					return 0, unix.EAGAIN
				case 1:
					return offered, nil
				default:
					return 1 + random.IntN(offered), nil
				}
			}
			p := &probe{}
			client := r.open(0, p, kind)
			scratch := make([]byte, 0, 3000)
			feed := func() {
				for p.Writable() && !p.IsPaused() && p.fed < total {
					n := min(1+random.IntN(3000), total-p.fed)
					if random.IntN(2) == 0 {
						p.Queue(pattern(p.fed, n))
					} else {
						scratch = append(scratch[:0], pattern(p.fed, n)...)
						p.QueueCopy(scratch)
					}
					p.fed += n
					if p.Full() || random.IntN(3) == 0 {
						p.Flush()
					}
				}
				if p.Writable() && p.fed == total {
					p.Finish()
				} else {
					p.Flush()
				}
			}
			p.onResumed = feed
			r.on(0, feed)
			if n, err := readPattern(client, 0, -1); n != total || err != nil {
				t.Errorf("seed %d: read %d of %d bytes, %v", seed, n, total, err)
			}
			_ = client.Close()
			await(t, p.released, "Released")
			if p.cause != nil {
				t.Errorf("seed %d: ended with %v", seed, p.cause)
			}
		}
	})
}

// A client that is always one event behind, so that its outbox is never empty, costs no more after a hundred thousand
// events than after a hundred; and one outbox in use is one outbox kept.
func TestNeverEmpty(t *testing.T) {
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
	sh := r.shards[0]
	for name, queue := range map[string]func(*conn.Conn, []byte){"Queue": (*conn.Conn).Queue, "QueueCopy": (*conn.Conn).QueueCopy} {
		r.on(0, func() {
			p := &probe{shard: sh, ended: make(chan struct{}), released: make(chan struct{})}
			lag := 0
			k.take = func(offered int) (int, error) {
				if offered <= lag {
					return 0, unix.EAGAIN
				}
				return offered - lag, nil
			}
			if err := p.Open(sh, noFD, false, p); err != nil {
				t.Error(err)
				return
			}
			defer p.Abort(errOver, false)
			lag = 60
			for i := range 100_000 {
				queue(&p.Conn, pattern(i, 100))
				p.Flush()
				conn.HandlerOf(&p.Conn).Writable()
				if p.IsPaused() {
					t.Errorf("%s: paused with %d pending", name, p.Pending())
					return
				}
			}
			if p.Pending() != lag {
				t.Errorf("%s: %d pending", name, p.Pending())
			}
			if n := p.Held(); n > conn.CopiesKept+conn.PiecesKept*24 {
				t.Errorf("%s: %d bytes held for %d pending", name, n, p.Pending())
			}
		})
	}
	r.on(0, func() {
		if n, _ := sh.Spare(); n != 1 {
			t.Errorf("%d spare outboxes, used one at a time", n)
		}
	})
}

// Copies in a row are one piece, so that small events for a slow client leave in few calls.
func TestCopiesAreJoined(t *testing.T) {
	k := &sink{keep: true}
	r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
	p := &probe{ended: make(chan struct{}), released: make(chan struct{})}
	r.on(0, func() {
		p.shard = r.shards[0]
		if err := p.Open(p.shard, noFD, false, p); err != nil {
			t.Error(err)
			return
		}
		defer p.Abort(errOver, false)
		for i := range 1000 {
			p.QueueCopy(pattern(i*50, 50))
		}
		if n := p.Pieces(); n > 20 {
			t.Errorf("%d pieces", n)
		}
		p.Flush()
		if !bytes.Equal(k.got, pattern(0, 50_000)) || k.sends > 2 {
			t.Errorf("%d bytes sent in %d calls", len(k.got), k.sends)
		}
	})
}

// An event on the direct path allocates nothing, shared or copied, one or several to a call, fake kernel or real.
func TestDirectPathAllocatesNothing(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector allocates")
	}
	eachPair(t, func(t *testing.T, kind pair) {
		r := newRig(t, 1, conn.Config{}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		drained := make(chan struct{})
		go func() { defer close(drained); _, _ = io.Copy(io.Discard, client) }()
		ev := pattern(0, 50)
		r.on(0, func() {
			if n := testing.AllocsPerRun(50, func() { p.Queue(ev); p.Flush() }); n != 0 {
				t.Errorf("%v allocations per shared event", n)
			}
		})
		r.turns(0, 2) // the turn's share of sends is not what is measured here
		r.on(0, func() {
			if n := testing.AllocsPerRun(25, func() { p.QueueCopy(ev); p.Queue(ev); p.QueueCopy(ev); p.Flush() }); n != 0 {
				t.Errorf("%v allocations per three events", n)
			}
		})
		_ = client.Close()
		await(t, drained, "the reader")
		await(t, p.released, "Released")
	})
}

// A storm of slow clients leaves no more behind than the spare outboxes that the shard keeps, none of them large.
func TestSpareOutboxesAreBounded(t *testing.T) {
	k := &sink{take: func(int) (int, error) { return 0, unix.EAGAIN }}
	r := newRig(t, 1, conn.Config{Kernel: k, High: 1 << 20}, plenty)
	sh := r.shards[0]
	r.on(0, func() {
		var all []*probe
		for i := range conn.OutboxesKept + 100 {
			p := &probe{shard: sh, ended: make(chan struct{}), released: make(chan struct{})}
			if err := p.Open(sh, noFD, false, p); err != nil {
				t.Error(err)
				return
			}
			for range 500 { // alternating, so that they are not joined
				p.QueueCopy(pattern(0, i%300+1))
				p.Queue(pattern(0, 10))
			}
			p.QueueCopy(pattern(0, 20<<10)) // a block of its own
			p.Flush()
			all = append(all, p)
		}
		for _, p := range all {
			p.Abort(errOver, true)
		}
		n, largest := sh.Spare()
		if n != conn.OutboxesKept || largest > conn.CopiesKept+conn.PiecesKept*24 {
			t.Errorf("%d spare outboxes, the largest holds %d bytes", n, largest)
		}
	})
}
