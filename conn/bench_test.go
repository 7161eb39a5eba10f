package conn_test

import (
	"io"
	"testing"

	"streaming-daemon-go/conn"
)

// BenchmarkDirectSend is one 50-byte event from Queue to the kernel, the path of nearly every event: without a kernel,
// and with a real socket whose client reads along on another core.
func BenchmarkDirectSend(b *testing.B) {
	copied := func(c *conn.Conn, e []byte) { c.QueueCopy(e) }
	shared := func(c *conn.Conn, e []byte) { c.Queue(e) }
	for _, how := range []struct {
		name  string
		queue func(*conn.Conn, []byte)
	}{{"shared", shared}, {"copied", copied}} {
		ev := pattern(0, 50)
		b.Run("fake/"+how.name, func(b *testing.B) {
			k := &sink{}
			r := makeRig(b, 1, conn.Config{Kernel: k}, plenty)
			p := &owned{}
			b.ReportAllocs()
			r.on(0, func() {
				if err := p.Open(r.shards[0], noFD, false, p); err != nil {
					b.Error(err)
					return
				}
				defer p.Abort(errOver, true)
				resume := conn.HandlerOf(&p.Conn).Writable
				for b.Loop() {
					how.queue(&p.Conn, ev)
					if p.Flush(); p.IsPaused() {
						resume() // once in TurnSends events
					}
				}
			})
			b.ReportMetric(float64(k.sends)/float64(b.N), "syscalls/event")
		})
		for _, kind := range both {
			b.Run(kind.name+"/"+how.name, func(b *testing.B) {
				m := newMeddler()
				r := makeRig(b, 1, conn.Config{Kernel: m}, plenty)
				p := &owned{resumed: make(chan struct{}, 1)}
				near, client := kind.make(b)
				r.on(0, func() {
					if err := p.Open(r.shards[0], near, kind.tcp, p); err != nil {
						b.Error(err)
					}
				})
				go func() { _, _ = io.Copy(io.Discard, client) }()
				b.ReportAllocs()
				for done := false; !done; { // a turn's worth at a time, as a stream that never waits does
					r.on(0, func() {
						for !p.IsPaused() {
							if done = !b.Loop(); done {
								return
							}
							how.queue(&p.Conn, ev)
							p.Flush()
						}
					})
					if !done {
						await(b, p.resumed, "Resumed")
					}
				}
				b.ReportMetric(float64(m.sends.Load())/float64(b.N), "syscalls/event")
				r.on(0, func() { p.Abort(errOver, true) })
			})
		}
	}
}

// BenchmarkIdleConn reports what an open conn costs while nothing happens to it.
func BenchmarkIdleConn(b *testing.B) {
	const conns = 2000
	for _, kind := range both {
		b.Run(kind.name, func(b *testing.B) {
			r := makeRig(b, 1, conn.Config{}, plenty)
			var perConn float64
			for b.Loop() {
				n, end := idle(r, kind, conns)
				perConn = max(perConn, n) // the first time: netpoll keeps its operators
				end()
			}
			b.ReportMetric(perConn, "heap-bytes/conn")
			b.ReportMetric(float64(conn.SizeOfConn), "sizeof-Conn")
			b.ReportMetric(0, "ns/op")
		})
	}
}
