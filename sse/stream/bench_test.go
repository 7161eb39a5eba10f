package stream_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/demo"
	"streaming-daemon-go/sse/stream"
)

// tcpPairs makes n connected TCP pairs without any Go object per pair: near ends to hand off, far ends for the caller
// to close.
func tcpPairs(b *testing.B, n int) (near, far []int) {
	b.Helper()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer unix.Close(listener)
	must(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(unix.Listen(listener, 128))
	address, err := unix.Getsockname(listener)
	must(err)
	for range n {
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(err)
		must(unix.Connect(c, address))
		s, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		must(err)
		near, far = append(near, s), append(far, c)
	}
	return near, far
}

// memory is the live heap and the resident set, in bytes.
func memory(b *testing.B) (live, rss int64) {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Fatal(err)
	}
	var size, resident int64
	if _, err := fmt.Fscan(bytes.NewReader(text), &size, &resident); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.GC() // the first one ends the sweep of the one before, and drops sync.Pools in two steps
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), resident * int64(os.Getpagesize())
}

// BenchmarkIdleStreams reports what an open stream of the demo backend costs that has sent its first event and waits,
// with a heartbeat and a deadline set: live heap and RSS beyond the idle server, over TCP, all layers included (netpoll
// too), the kernel's socket buffers not. "after" is the same once a storm of hangups has ended every stream and as many
// new ones have come. Run it with -benchtime 1x.
func BenchmarkIdleStreams(b *testing.B) {
	const n = 5000
	for _, backend := range []struct {
		name    string
		options demo.Options
	}{{"messages", demo.Options{Delay: time.Hour, Messages: 2}}, {"words", demo.Options{Delay: time.Hour}}} {
		b.Run(backend.name, func(b *testing.B) {
			fdtest.NoLeaks(b)
			for b.Loop() {
				b.StopTimer()
				pool, err := loop.NewPool(2)
				if err != nil {
					b.Fatal(err)
				}
				server := stream.NewServer(pool, stream.Config{
					NewBackend: demo.Maker(backend.options), Log: slog.New(slog.DiscardHandler),
					MaxConnections: n, MaxPendingBytes: 1 << 30,
					HeartbeatInterval: time.Hour, MaxStreamDuration: 2 * time.Hour,
				})
				near, far := tcpPairs(b, n)
				debug.FreeOSMemory() // the pairs' own garbage is no stream's
				live0, rss0 := memory(b)
				b.StartTimer()
				open(b, pool, server, near)
				b.StopTimer()
				live1, rss1 := memory(b)

				for _, fd := range far {
					_ = unix.Close(fd)
				}
				fdtest.Eventually(b, "all clients to be gone", func() bool { return server.Held() == 0 })
				near, far = tcpPairs(b, n)
				open(b, pool, server, near)
				live2, rss2 := memory(b)
				for _, fd := range far {
					_ = unix.Close(fd)
				}
				fdtest.Eventually(b, "all clients to be gone", func() bool { return server.Held() == 0 })
				pool.Close()
				b.StartTimer()
				b.ReportMetric(float64(live1-live0)/n, "heapB/stream")
				b.ReportMetric(float64(rss1-rss0)/n, "rssB/stream")
				b.ReportMetric(float64(live2-live0)/n, "heapB/after")
				b.ReportMetric(float64(rss2-rss0)/n, "rssB/after")
			}
		})
	}
}

// open hands all sockets off, as they come from a receiving loop: some in each turn.
func open(b *testing.B, pool *loop.Pool, server *stream.Server, near []int) {
	b.Helper()
	payload, err := fdrecv.ParsePayload([]byte(`{"prompt":"tell me a story","user_id":7,"model":"m","request_id":"r-1234"}`))
	if err != nil {
		b.Fatal(err)
	}
	address := netip.MustParseAddrPort("127.0.0.1:1")
	done := make(chan struct{})
	for len(near) > 0 {
		some := near[:min(len(near), 64)]
		near = near[len(some):]
		last := len(near) == 0
		err := pool.Loops()[0].Post(func() {
			for _, fd := range some {
				server.Handoff(0, fdrecv.Handoff{
					Client: loop.OwnFD(fd), ClientAddr: address, Payload: payload, AcceptedAt: pool.Loops()[0].Now(),
				})
			}
			if last {
				close(done)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	<-done
	fdtest.Eventually(b, "all streams to be open", func() bool { return server.Counts().Streams == server.Held() })
}
