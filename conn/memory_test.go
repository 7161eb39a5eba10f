package conn_test

import (
	"runtime"
	"testing"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/loop"
)

// owned is the least that an owner can be.
type owned struct {
	conn.Conn
	resumed chan struct{} // nil: nobody waits
}

func (*owned) Paused()     {}
func (o *owned) Resumed()  { raise(o.resumed) }
func (*owned) Ended(error) {}
func (*owned) Released()   {}

// idle opens n conns of kind, lets each send one event to a client that reads it, and gives the live heap that one of
// them costs: itself, its registration with the loop and netpoll's operator. end closes both sides of all.
func idle(r *rig, kind pair, n int) (bytesPerConn float64, end func()) {
	conns := make([]*owned, n)
	fds := make([]int, n)
	clients := make([]interface{ Close() error }, n)
	for i := range conns {
		near, client := kind.make(r)
		fds[i], clients[i] = near.Release(), client
	}
	before := liveHeap()
	r.on(0, func() {
		for i := range conns {
			conns[i] = &owned{}
			if err := conns[i].Open(r.shards[0], loop.OwnFD(fds[i]), kind.tcp, conns[i]); err != nil {
				r.Error(err)
				return
			}
		}
	})
	ev := pattern(0, 50)
	for i := range 4 {
		r.on(0, func() {
			for _, c := range conns {
				if i%2 == 0 {
					c.Queue(ev)
				} else {
					c.QueueCopy(ev)
				}
				c.Flush()
			}
		})
	}
	bytesPerConn = float64(liveHeap()-before) / float64(n)
	runtime.KeepAlive(fds)
	return bytesPerConn, func() {
		r.on(0, func() {
			for _, c := range conns {
				c.Abort(errOver, true)
			}
		})
		for _, c := range clients {
			_ = c.Close()
		}
	}
}

func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // the second one finishes what finalizers and pools of the first held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// An idle open stream may cost 400 bytes of live heap in all; the conn's part, with all that loop and netpoll keep for
// it, leaves room for the stream and its backend. It holds no outbox.
func TestIdleConnIsSmall(t *testing.T) {
	const most = 320 // bytes; measured: see BenchmarkIdleConn
	r := newRig(t, 1, conn.Config{}, plenty)
	n, end := idle(r, unic, 400)
	defer end()
	if n > most && !raceBuild { // netpoll keeps a map of its operators in race builds
		t.Errorf("%.0f bytes of live heap per idle conn, of which Conn is %d", n, conn.SizeOfConn)
	}
	r.on(0, func() {
		if spare, _ := r.shards[0].Spare(); spare != 1 {
			t.Errorf("%d spare outboxes after events one at a time", spare)
		}
	})
	if conn.SizeOfConn > 112 {
		t.Errorf("a Conn has %d bytes", conn.SizeOfConn)
	}
}
