package openai_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai"
)

// costs is a rig with an upstream and clients of bare descriptors: what is measured is the daemon's share alone.
type costs struct {
	*rig
	listener loop.FD
	fds      []loop.FD // of upstream connections and clients
	buf      []byte
}

func newCosts(t testing.TB) *costs {
	t.Helper()
	n, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/s"
	if err := unix.Bind(n, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(n, 128); err != nil {
		t.Fatal(err)
	}
	c := &costs{listener: loop.OwnFD(n), buf: make([]byte, 0, 64<<10)}
	c.rig = newRig(t, nil, rigOptions{Options: openai.Options{Profile: openai.Profile{Socket: path}}})
	t.Cleanup(func() {
		for i := range c.fds {
			_ = c.fds[i].Close()
		}
		_ = c.listener.Close()
	})
	return c
}

// open makes a relayed stream whose first event has reached the client, and gives the upstream's end and the client's.
func (c *costs) open(payload []byte) (up, client int) {
	c.t.Helper()
	near, far := fdtest.SocketPair(c.t, unix.SOCK_STREAM)
	p, err := fdrecv.ParsePayload(payload)
	if err != nil {
		c.t.Fatal(err)
	}
	c.on(func() { c.server.Handoff(0, fdrecv.Handoff{Client: near, Payload: p}) })
	up, _, err = unix.Accept4(c.listener.Int(), unix.SOCK_CLOEXEC)
	if err != nil {
		c.t.Fatal(err)
	}
	c.fds = append(c.fds, far, loop.OwnFD(up))
	c.mustRead(up, "}") // the end of the body: the request goes out in one send
	c.mustWrite(up, chunkedHead)
	c.mustWrite(up, asChunk(textEvent(`"first"`)))
	c.mustRead(far.Int(), `data: {"content":"first"}`+"\n\n")
	return up, far.Int()
}

func (c *costs) mustWrite(fd int, text string) {
	if n, err := unix.Write(fd, []byte(text)); n != len(text) || err != nil {
		c.t.Fatalf("wrote %d of %d bytes: %v", n, len(text), err)
	}
}

// mustRead reads, with patience, until what was read ends with suffix.
func (c *costs) mustRead(fd int, suffix string) {
	c.t.Helper()
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		c.t.Fatal(err)
	}
	b := c.buf[:0]
	for !strings.HasSuffix(string(b), suffix) {
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if err != nil || n == 0 {
			c.t.Fatalf("read %q, then %v; want the end to be %q", b, err, suffix)
		}
		b = b[:len(b)+n]
	}
}

// TestMemoryPerStream: the live heap of an open stream, relay, call and both sockets' state together. The prompt does
// not live with it. GOGC=100 doubles it in RSS at worst, which the bar of 2.5 KB allows for.
func TestMemoryPerStream(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector's own memory is in the numbers")
	}
	fdtest.NoLeaks(t)
	const streams, bytesMax = 1000, 1250
	c := newCosts(t)
	c.fds = make([]loop.FD, 0, 4*streams)
	payload := []byte(`{"messages":[{"role":"user","content":"` + string(make8k()) + `"}]}`)
	for range 100 { // what is there once: buffers, tables
		c.open(payload)
	}
	before, goroutines := liveHeap(), runtime.NumGoroutine()
	for range streams {
		c.open(payload)
	}
	perStream := float64(liveHeap()-before) / streams
	t.Logf("%.0f bytes of live heap per stream", perStream)
	if perStream > bytesMax {
		t.Errorf("%.0f bytes of live heap per stream, want at most %d", perStream, bytesMax)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines more for %d streams", n-goroutines, streams)
	}
	if n := c.backend.Counts().Streams; n != streams+100 {
		t.Errorf("%d streams are open", n)
	}
}

func make8k() []byte {
	b := make([]byte, 8<<10)
	for i := range b {
		b[i] = 'x'
	}
	return b
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers and pools let go of at the first
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestEventAllocatesNothing: an event on its way through allocates nothing, whole in one read or cut in two.
func TestEventAllocatesNothing(t *testing.T) {
	if raceBuild {
		t.Skip("the race detector allocates")
	}
	fdtest.NoLeaks(t)
	c := newCosts(t)
	up, client := c.open([]byte(prompt))
	whole := []byte(asChunk(textEvent(`"a \ud83d\ude00 token"`)))
	var b [4096]byte
	for name, cuts := range map[string][]int{"whole": {len(whole)}, "cut": {40, len(whole)}} {
		got := testing.AllocsPerRun(50, func() { // few: it leaves the process one P, and the blocking read has to give it up
			from := 0
			for _, to := range cuts {
				if _, err := unix.Write(up, whole[from:to]); err != nil {
					t.Fatal(err)
				}
				from = to
			}
			if n, err := unix.Read(client, b[:]); err != nil || n == 0 {
				t.Fatal(n, err)
			}
		})
		if got != 0 {
			t.Errorf("%s: %v allocations per event", name, got)
		}
	}
}

// BenchmarkEvent is one event through the daemon: read, parsed, encoded, written, with the upstream's write and the
// client's read around it.
func BenchmarkEvent(b *testing.B) {
	c := newCosts(b)
	up, client := c.open([]byte(prompt))
	event := []byte(asChunk(textEvent(`" token"`)))
	var buf [4096]byte
	b.ReportAllocs()
	for b.Loop() {
		if _, err := unix.Write(up, event); err != nil {
			b.Fatal(err)
		}
		if _, err := unix.Read(client, buf[:]); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSpread is an event on each of 1,000 streams in turn: what a process with many slow streams pays, without the
// wake-up of an idle loop.
func BenchmarkSpread(b *testing.B) {
	const streams = 1000
	c := newCosts(b)
	c.fds = make([]loop.FD, 0, 2*streams)
	var ups, clients []int
	for range streams {
		up, client := c.open([]byte(prompt))
		ups, clients = append(ups, up), append(clients, client)
	}
	event := []byte(asChunk(textEvent(`" token"`)))
	var buf [4096]byte
	var before, after unix.Rusage
	events := 0
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	b.ReportAllocs()
	for b.Loop() {
		for _, up := range ups {
			if _, err := unix.Write(up, event); err != nil {
				b.Fatal(err)
			}
		}
		for _, client := range clients {
			if _, err := unix.Read(client, buf[:]); err != nil {
				b.Fatal(err)
			}
		}
		events += streams
	}
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	cpu := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(float64(cpu.Nanoseconds())/float64(events), "cpu-ns/event")
	b.ReportMetric(0, "ns/op")
}
