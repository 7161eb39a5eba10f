package stream_test

import (
	"log/slog"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/demo"
	"streaming-daemon-go/sse/stream"
)

// void is a kernel without descriptors: it takes every byte at once, and no client ever says anything.
type void struct{}

func (void) Setup(int, time.Duration) error                               { return nil }
func (void) Attach(*loop.Source, *loop.Loop, loop.FD, loop.Handler) error { return nil }
func (void) Retire(*loop.Source)                                          {}
func (void) Send(_ int, b []byte) (int, error)                            { return len(b), nil }
func (void) Recv(int, []byte) (int, error)                                { return 0, unix.EAGAIN }
func (void) ShutdownWrite(int) error                                      { return nil }
func (void) Reset(int)                                                    {}
func (void) Sendv(_ int, pieces [][]byte) (n int, err error) {
	for _, p := range pieces[:min(len(pieces), loop.SendvMax)] {
		n += len(p)
	}
	return n, nil
}

// BenchmarkMillionStreams runs a million streams of the demo backend, each with an event every 10 s, a heartbeat and a
// deadline, on the real loops, wheel, conns and streams, over a kernel that is not there. It reports the live heap per
// stream, what opening one costs, and the process CPU per event in the steady state: its timer, the backend, the outbox
// and the write call up to the kernel's door.
//
// What it leaves out: the kernel (sockets, epoll, every syscall, which is most of what an event costs), and what the
// loop keeps for an attached descriptor: a netpoll operator of 104 bytes, its two callbacks (48 bytes) and 8 bytes in
// the list of sources. BenchmarkIdleStreams has those. Run it with -benchtime 1x; it takes about 15 s and 700 MB.
func BenchmarkMillionStreams(b *testing.B) {
	const n = 1_000_000
	const gap = 10 * time.Second
	fdtest.NoLeaks(b)
	for b.Loop() {
		b.StopTimer()
		pool, err := loop.NewPool(2)
		if err != nil {
			b.Fatal(err)
		}
		cfg := stream.Config{
			NewBackend: demo.Maker(demo.Options{Delay: gap, Messages: 1 << 30}), Log: slog.New(slog.DiscardHandler),
			MaxConnections: n, MaxPendingBytes: 1 << 30,
			HeartbeatInterval: 15 * time.Second, MaxStreamDuration: time.Hour,
		}
		cfg.Conn.Kernel = void{}
		server := stream.NewServer(pool, cfg)
		live0, _ := memory(b)
		cpu0 := cpu(b)
		b.StartTimer()
		for range n / 100 { // spread over the gap by the time that it takes
			err := pool.Loops()[0].Post(func() {
				for range 100 {
					server.Handoff(0, fdrecv.Handoff{AcceptedAt: pool.Loops()[0].Now()})
				}
			})
			if err != nil {
				b.Fatal(err)
			}
		}
		fdtest.Eventually(b, "a million streams", func() bool { return server.Counts().Streams == n })
		b.StopTimer()
		opened := cpu(b)
		live1, _ := memory(b)

		events, before := server.Counts().Events, cpu(b)
		due := time.NewTimer(gap)
		<-due.C // the measured time, no barrier
		events, after := server.Counts().Events-events, cpu(b)
		if events < n/2 {
			b.Fatalf("%d events in %v", events, gap)
		}
		b.ReportMetric(float64(live1-live0)/n, "heapB/stream")
		b.ReportMetric(float64(opened-cpu0)/n, "cpu-ns/open")
		b.ReportMetric(float64(after-before)/float64(events), "cpu-ns/event")
		b.ReportMetric(float64(events)/gap.Seconds(), "events/s")
		pool.Close()
		b.StartTimer()
	}
}

// cpu is what the process has used, in nanoseconds.
func cpu(b *testing.B) int64 {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
