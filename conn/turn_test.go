package conn_test

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
)

// bottomless is the real Kernel, but for a send that takes everything and makes no call: the fastest reader there is.
// Its counters belong to the loop.
type bottomless struct {
	conn.Kernel
	bytes, sends int
}

func (k *bottomless) Send(_ int, b []byte) (int, error) {
	k.bytes += len(b)
	k.sends++
	return len(b), nil
}

func (k *bottomless) Sendv(fd int, pieces [][]byte) (int, error) {
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	k.bytes += n
	k.sends++
	return n, nil
}

// A client that reads as fast as an endless owner sends does not keep the loop: between any two looks of somebody else
// lie a turn's bytes and a turn's sends at most. It does not starve either: it goes on in each turn.
func TestTurnBudget(t *testing.T) {
	tests := []struct {
		name  string
		event int
	}{{"small events", 50}, {"large events", 16 << 10}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := &bottomless{Kernel: conn.Linux}
			r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
			p := &probe{}
			r.open(0, p, unic)
			feed := func() { p.feed(tt.event, 256<<20) } // without a budget it ends here, and fails the test
			p.onResumed = feed
			var bytes, sends int
			r.eachTurn(0, 200, func(i int) {
				if i == 0 {
					feed()
				}
				moved, called := k.bytes-bytes, k.sends-sends
				bytes, sends = k.bytes, k.sends
				if moved > conn.TurnBytes+tt.event || called > conn.TurnSends { // looked at after each Flush
					t.Errorf("turn %d: %d bytes in %d sends", i, moved, called)
				}
				if moved == 0 {
					t.Errorf("turn %d: nothing was sent", i)
				}
			})
			r.on(0, func() { p.onResumed = nil })
		})
	}
}

// An owner that sends on though its turn is spent, as a heartbeat does, is resumed all the same: its bytes wait for
// the next turn, and nothing else.
func TestSendAfterTheTurnIsSpent(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		r := newRig(t, 1, conn.Config{}, plenty)
		p := &probe{}
		client := r.open(0, p, kind)
		read := make(chan error, 1)
		r.on(0, func() {
			p.feed(10, 1<<20)
			if !p.IsPaused() || p.fed != conn.TurnSends*10 {
				t.Errorf("after %d bytes: %s", p.fed, p.StateName())
			}
			p.Flush() // of nothing
			for range 3 {
				p.Queue(pattern(p.fed, 10))
				p.fed += 10
				p.Flush()
				p.Flush()
			}
			if p.Sent() != conn.TurnSends*10 || p.Pending() != 30 {
				t.Errorf("sent %d, pending %d in the turn that was spent", p.Sent(), p.Pending())
			}
		})
		await(t, p.resumed, "Resumed")
		go func() { _, err := readPattern(client, 0, conn.TurnSends*10+30); read <- err }()
		if err := await(t, read, "the client"); err != nil {
			t.Error(err)
		}
		r.on(0, func() {
			if p.Pending() != 0 || p.StateName() != "open" {
				t.Errorf("%s, pending %d", p.StateName(), p.Pending())
			}
			if len(p.shard.Blocked()) != 0 {
				t.Error("still waits for Writable")
			}
			p.feed(10, 1<<20)
			if !p.IsPaused() {
				t.Errorf("%s", p.StateName())
			}
			p.Flush() // nor does this lose the way back
		})
		await(t, p.resumed, "Resumed after a Flush of nothing")
	})
}

// A turn that is spent at the very moment when the kernel is full leaves nothing pending, and a client that never reads
// again. It has a deadline like any other that makes its owner wait.
func TestPausedWithNothingPendingTimesOut(t *testing.T) {
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k, WriteTimeout: 20 * time.Millisecond}, 10)
	p := &probe{}
	r.openFD(0, p, noFD, false)
	r.on(0, func() {
		p.feed(10, 1<<20)
		if !p.IsPaused() || p.Pending() != 0 {
			t.Errorf("%s with %d pending", p.StateName(), p.Pending())
		}
	})
	await(t, p.released, "the write timeout")
	if p.cause != conn.ErrWriteTimeout {
		t.Errorf("ended with %v", p.cause)
	}
}

// The end of a stream goes out in full whatever of the turn is spent.
func TestFinishAfterTheTurnIsSpent(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		r := newRig(t, 1, conn.Config{}, plenty)
		for _, more := range []int{0, 100} {
			p := &probe{}
			client := r.open(0, p, kind)
			r.on(0, func() {
				p.feed(10, 1<<20)
				p.Queue(pattern(p.fed, more))
				p.Finish()
			})
			if n, err := readPattern(client, 0, -1); n != conn.TurnSends*10+more || err != nil {
				t.Errorf("the client read %d bytes, %v", n, err)
			}
			_ = client.Close()
			await(t, p.released, "Released")
		}
	})
}

// A client that writes without end takes no more than its share of a turn either: others on the loop are served.
func TestReadBudget(t *testing.T) {
	k := &chatter{Kernel: conn.Linux}
	r := newRig(t, 1, conn.Config{Kernel: k, InputMax: 1 << 30}, plenty)
	p := &probe{}
	client := r.open(0, p, unic)
	before := 0
	r.eachTurn(0, 100, func(i int) {
		if i == 0 {
			if _, err := io.WriteString(client, "x"); err != nil { // stays unread: readable from now on
				t.Error(err)
			}
		}
		if n := k.recvs - before; i > 0 && n != conn.TurnReads {
			t.Errorf("turn %d: %d reads", i, n)
		}
		before = k.recvs
	})
	r.on(0, func() { k.quiet = true })
	if _, err := io.WriteString(client, "y"); err != nil {
		t.Error(err)
	}
}

// chatter always has something to read, until it is quiet. Owned by the loop.
type chatter struct {
	conn.Kernel
	recvs int
	quiet bool
}

func (k *chatter) Recv(fd int, b []byte) (int, error) {
	if k.quiet {
		return k.Kernel.Recv(fd, b)
	}
	if k.recvs++; k.recvs > 10_000 { // not for ever, without a budget
		return 0, unix.EAGAIN
	}
	return len(b), nil
}
