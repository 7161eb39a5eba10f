package fdrecv_test

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// TestMain keeps expected warnings out of the output; a test that wants them sets a logger of its own.
func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	os.Exit(m.Run())
}

const patience = 10 * time.Second

// receiver is a Listener on a loop of its own, with what it hands over.
type receiver struct {
	t        testing.TB
	ln       *fdrecv.Listener
	pool     *loop.Pool // of serve
	loop     *loop.Loop
	path     string
	handoffs chan fdrecv.Handoff
}

// socketPath is a path short enough for a Unix socket, whatever the name of the test.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fdrecv")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func listen(t testing.TB, path string, kind fdrecv.Kind) *fdrecv.Listener {
	t.Helper()
	ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Kind: kind, Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ln.Close)
	return ln
}

func newPool(t testing.TB) *loop.Pool {
	t.Helper()
	pool, err := loop.NewPool(1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func newLoop(t testing.TB) *loop.Loop {
	t.Helper()
	return newPool(t).Loops()[0]
}

// serve starts a receiver; cfg.Handoff is set here unless the test did.
func serve(t testing.TB, kind fdrecv.Kind, cfg fdrecv.Config) *receiver {
	t.Helper()
	path := socketPath(t)
	pool := newPool(t)
	r := &receiver{t: t, pool: pool, loop: pool.Loops()[0], path: path, ln: listen(t, path, kind), handoffs: make(chan fdrecv.Handoff, 4096)}
	r.start(cfg)
	return r
}

func (r *receiver) start(cfg fdrecv.Config) {
	r.t.Helper()
	if cfg.Handoff == nil {
		cfg.Handoff = func(h fdrecv.Handoff) { r.handoffs <- h }
	}
	if err := r.ln.Serve(r.loop, cfg); err != nil {
		r.t.Fatal(err)
	}
}

// next waits for the next outcome. The caller owns its client.
func (r *receiver) next() fdrecv.Handoff {
	r.t.Helper()
	select {
	case h := <-r.handoffs:
		return h
	case <-time.After(patience):
		r.t.Fatal("no handoff")
	}
	panic("unreachable")
}

// stop closes the listener and the clients that nobody took.
func (r *receiver) stop() {
	r.t.Helper()
	r.ln.Close()
	r.inTurn(func() {}) // Close has run
	for {
		select {
		case h := <-r.handoffs:
			_ = h.Client.Close()
		default:
			return
		}
	}
}

// await takes one from c.
func await(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain")
	}
}

// inTurn runs f on the loop and waits for it.
func (r *receiver) inTurn(f func()) {
	r.t.Helper()
	done := make(chan struct{})
	if err := r.loop.Post(func() { f(); close(done) }); err != nil {
		r.t.Fatal(err)
	}
	<-done
}

// socketType is the type of socket that a kind's sender opens.
func socketType(kind fdrecv.Kind) int {
	if kind == fdrecv.KindSeqpacket {
		return unix.SOCK_SEQPACKET
	}
	return unix.SOCK_STREAM
}

// talk writes through the client socket that was handed over and reads at the far end: it is that client and no other.
func talk(t testing.TB, server int, client net.Conn) {
	t.Helper()
	if _, err := unix.Write(server, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := client.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
		t.Fatalf("the client read %q, %v", got, err)
	}
}

// expectEOF waits until the far end of conn is closed.
func expectEOF(t testing.TB, conn int) {
	t.Helper()
	timeout := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(conn, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		t.Fatal(err)
	}
	// ECONNRESET: closed over bytes that were not read, as after a refusal in mid-payload
	if n, err := unix.Read(conn, make([]byte, 1)); n != 0 && err != unix.ECONNRESET {
		t.Fatalf("read %d, %v, want the end", n, err)
	}
}

// kinds are the kinds that carry a payload, for tests that hold for both.
var kinds = []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket}

// streamPair is a client for a test that sends several handoffs: a Unix socket pair, closed at the end.
func streamPair(t testing.TB) (server, client loop.FD) {
	t.Helper()
	server, client = fdtest.SocketPair(t, unix.SOCK_STREAM)
	t.Cleanup(func() { _ = server.Close(); _ = client.Close() })
	return server, client
}
