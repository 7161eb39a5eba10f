package observetest_test

import (
	"bytes"
	"cmp"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/demo"
)

// instance is a daemon and what its clients have seen of it: every number in here is theirs.
type instance struct {
	*daemontest.Daemon
	t    testing.TB
	addr string // of its metrics, and its instance label

	connections, handoffs, rejected float64
	handoffErrors, streamErrors     map[string]float64 // by reason
	events, bytes                   float64
	streams                         []times
	refusedHandoffs                 []times // usable ones, but turned away: no stream

	heldStreams, heldPaused float64 // while they are held
	peakMin, peakMax        float64
}

// times bounds what the daemon can have measured of one client.
type times struct {
	handoffMin               time.Duration // for so long the sender kept the handoff open
	firstByteMax             time.Duration // the client had its first byte
	durationMin, durationMax time.Duration // the client did not read; its stream had ended
}

// newInstance starts a daemon.
func newInstance(t testing.TB, args ...string) *instance {
	t.Helper()
	d := daemontest.Start(t, append([]string{"-heartbeat-interval", "0"}, args...)...)
	return &instance{
		Daemon: d, t: t, addr: d.MetricsAddr(),
		handoffErrors: map[string]float64{}, streamErrors: map[string]float64{},
	}
}

// handOver hands a new client over and gives the far end.
func (i *instance) handOver(payload string) net.Conn {
	i.t.Helper()
	server, far := fdtest.TCPPair(i.t)
	defer server.Close()
	_ = far.SetDeadline(time.Now().Add(patience))
	if err := fdrecv.Send(i.Seqpacket, fdrecv.KindSeqpacket, server.Int(), []byte(payload), patience); err != nil {
		i.t.Fatal(err)
	}
	i.connections++
	return far
}

// Daemon one sends as fast as its clients read: how long a stream lasts is in the clients' hands. messages are 600 KB,
// more than both ends' kernels (127 KB) and the daemon itself (64 KB) hold for one that does not read.
const messages = 10_000

// reader is a client of daemon one.
type reader struct {
	times
	far   net.Conn
	begun time.Time
	got   []byte
	err   error
}

// begin hands a client over and reads its first byte.
func (i *instance) begin() *reader {
	i.t.Helper()
	r := &reader{begun: time.Now()}
	r.far = i.handOver(`{"user_id":1}`)
	r.first()
	return r
}

func (r *reader) first() {
	b := make([]byte, 1)
	_, r.err = io.ReadFull(r.far, b)
	r.firstByteMax = time.Since(r.begun)
	r.got = append(r.got, b...)
}

// finish reads the rest; held is how long it did not, at least.
func (r *reader) finish(held time.Duration) {
	rest, err := io.ReadAll(r.far)
	r.got, r.err = append(r.got, rest...), err
	_ = r.far.Close()
	r.durationMin, r.durationMax = max(held, r.handoffMin), time.Since(r.begun)
}

// count adds a stream that must be complete.
func (i *instance) count(r *reader) {
	i.t.Helper()
	if n := bytes.Count(r.got, []byte(demo.Message)); r.err != nil || n != messages || !bytes.HasSuffix(r.got, []byte("data: [DONE]\n\n")) {
		i.t.Fatalf("%d of %d events in %d bytes, %v", n, messages, len(r.got), r.err)
	}
	i.handoffs++
	i.events += messages
	i.bytes += float64(len(r.got))
	i.streams = append(i.streams, r.times)
}

// wholeStreams runs streams side by side to their ends. Half of the clients stop reading for a while.
func (i *instance) wholeStreams(n int, pause time.Duration) {
	i.t.Helper()
	readers := make([]*reader, n)
	var all sync.WaitGroup
	for k := range n {
		readers[k] = i.begin()
		all.Go(func() {
			var held time.Duration
			if k%2 == 1 {
				timer := time.NewTimer(pause) // part of the load: the client is busy with something else
				<-timer.C
				held = pause
			}
			readers[k].finish(held)
		})
	}
	all.Wait()
	for _, r := range readers {
		i.count(r)
	}
	i.peakMin, i.peakMax = 1, float64(n)
	i.AwaitMetric("daemon_active_connections", 0)
}

// slowHandoffs hands clients over whose sender takes its time with the payload, and reads their streams.
func (i *instance) slowHandoffs(n int, takes time.Duration) {
	i.t.Helper()
	var readers []*reader
	var senders []loop.FD
	for range n {
		r := &reader{begun: time.Now()}
		server, far := fdtest.TCPPair(i.t)
		_ = far.SetDeadline(time.Now().Add(patience))
		r.far = far
		sender := fdtest.Dial(i.t, i.Stream, unix.SOCK_STREAM)
		fdtest.SendFDs(i.t, sender.Int(), []byte(`{"user_`), server.Int())
		_ = server.Close()
		readers, senders = append(readers, r), append(senders, sender)
		i.connections++
	}
	i.AwaitMetric("daemon_connections_total", i.connections) // the daemon's clock runs for each from here on at the latest
	timer := time.NewTimer(takes)                            // part of the load
	<-timer.C
	for k, r := range readers {
		if _, err := unix.Write(senders[k].Int(), []byte(`id":1}`)); err != nil {
			i.t.Fatal(err)
		}
		_ = senders[k].Close() // the end of the payload
		r.handoffMin = takes
	}
	for _, r := range readers {
		r.first()
	}
	for _, r := range readers {
		r.finish(0)
		i.count(r)
	}
	i.AwaitMetric("daemon_active_connections", 0)
}

// holdPaused leaves n streams paused until the returned func, which reads them to the end.
func (i *instance) holdPaused(n int) (finish func()) {
	i.t.Helper()
	var readers []*reader
	for range n {
		readers = append(readers, i.begin())
	}
	i.AwaitMetric("daemon_paused_streams", float64(n))
	i.heldStreams, i.heldPaused = float64(n), float64(n)
	i.peakMin = max(i.peakMin, float64(n))
	allBegun := time.Now()
	return func() {
		held := time.Since(allBegun)
		for _, r := range readers {
			r.finish(held)
			i.count(r)
		}
		i.AwaitMetric("daemon_active_connections", 0)
	}
}

// Daemon two has endless streams: one event, then nothing.

// endless reads the head and the one event.
func (i *instance) endless() (far net.Conn, begun time.Time, firstByte time.Duration) {
	i.t.Helper()
	begun = time.Now()
	far = i.handOver(`{"user_id":2}`)
	var got []byte
	buffer := make([]byte, 4096)
	for !bytes.HasSuffix(got, []byte(demo.Message)) {
		n, err := far.Read(buffer)
		if len(got) == 0 {
			firstByte = time.Since(begun)
		}
		if got = append(got, buffer[:n]...); err != nil {
			i.t.Fatalf("%q, then %v", got, err)
		}
	}
	i.handoffs++
	i.events++
	i.bytes += float64(len(got))
	return far, begun, firstByte
}

// holdEndless holds n streams until the returned func, with which their clients leave.
func (i *instance) holdEndless(n int) (leave func()) {
	i.t.Helper()
	var fars []net.Conn
	var begun []time.Time
	var firsts []time.Duration
	for range n {
		far, at, first := i.endless()
		fars, begun, firsts = append(fars, far), append(begun, at), append(firsts, first)
	}
	i.heldStreams = float64(n)
	i.peakMin, i.peakMax = max(i.peakMin, float64(n)), max(i.peakMax, float64(n))
	allBegun := time.Now()
	return func() {
		held := time.Since(allBegun)
		for _, far := range fars {
			_ = far.Close()
		}
		i.AwaitMetric("daemon_active_connections", 0)
		for k := range fars {
			i.streams = append(i.streams, times{firstByteMax: firsts[k], durationMin: held, durationMax: time.Since(begun[k])})
		}
		i.streamErrors["client_disconnected"] += float64(n)
	}
}

// leave has n clients that leave once they have the event.
func (i *instance) leave(n int) {
	i.t.Helper()
	for range n {
		far, begun, first := i.endless()
		_ = far.Close()
		i.AwaitMetric("daemon_active_connections", 0)
		i.streams = append(i.streams, times{firstByteMax: first, durationMax: time.Since(begun)})
		i.streamErrors["client_disconnected"]++
	}
}

// refused hands clients over that must get an answer in place of a stream. reason is that of the handoff's failure; "":
// the handoff was fine.
func (i *instance) refused(n int, payload string, status int, reason string) {
	i.t.Helper()
	for range n {
		begun := time.Now()
		far := i.handOver(payload)
		got, err := io.ReadAll(far)
		_ = far.Close()
		if s, _, _ := sse.ParseHead(got); err != nil || s != status {
			i.t.Fatalf("%q, %v, want status %d", got, err, status)
		}
		i.rejected++
		i.bytes += float64(len(got))
		if reason == "" {
			i.handoffs++
			i.refusedHandoffs = append(i.refusedHandoffs, times{firstByteMax: time.Since(begun)})
		} else {
			i.handoffErrors[reason]++
		}
	}
}

// probes connect and leave without a word.
func (i *instance) probes(n int) {
	i.t.Helper()
	for range n {
		fd := fdtest.Dial(i.t, i.Seqpacket, unix.SOCK_SEQPACKET)
		_ = fd.Close()
		i.connections++
		i.handoffErrors["client_disconnected"]++
	}
	i.AwaitMetric(`daemon_handoff_errors_total{reason="client_disconnected"}`, i.handoffErrors["client_disconnected"])
}

// weighed is a time that counts for more or less than another.
type weighed struct {
	d      time.Duration
	weight float64
}

// quantile is the q-quantile of times as an order statistic.
func quantile(q float64, all []weighed) time.Duration {
	slices.SortFunc(all, func(a, b weighed) int { return cmp.Compare(a.d, b.d) })
	var total, sum float64
	for _, s := range all {
		total += s.weight
	}
	for _, s := range all {
		if sum += s.weight; sum >= q*total*(1-1e-9) {
			return s.d
		}
	}
	return all[len(all)-1].d
}

// page is the instance's own page, for what no client can see.
func (i *instance) page(path string) string {
	i.t.Helper()
	response, err := client.Get("http://" + i.addr + path)
	if err != nil {
		i.t.Fatal(err)
	}
	defer response.Body.Close()
	var b strings.Builder
	if _, err := io.Copy(&b, response.Body); err != nil || response.StatusCode != http.StatusOK {
		i.t.Fatalf("%s: %s %v", path, response.Status, err)
	}
	return b.String()
}
