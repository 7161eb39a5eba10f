package fdrecv_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// The limit on descriptors is the process's, so each test below runs in a child of its own.
func inChild(t *testing.T) bool {
	t.Helper()
	const mark = "FDRECV_TEST_CHILD"
	if os.Getenv(mark) == t.Name() {
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), mark+"="+t.Name())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("the child ran nothing:\n%s", out)
	}
	return false
}

// fillTable takes every free descriptor under a lowered limit and gives them back, one number each.
func fillTable(t *testing.T) []int {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var taken []int
	for {
		n, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return taken
		}
		taken = append(taken, n)
	}
}

func closeAll(fds []int) {
	for _, n := range fds {
		_ = unix.Close(n)
	}
}

// queue makes a listener that is not served yet, with handoffs in its backlog.
func queue(t *testing.T, count int) *receiver {
	t.Helper()
	path := socketPath(t)
	r := &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, fdrecv.KindSeqpacket),
		handoffs: make(chan fdrecv.Handoff, count)}
	server, _ := streamPair(t)
	for range count {
		if err := fdrecv.Send(path, fdrecv.KindSeqpacket, server.Int(), []byte(`{"prompt":"p"}`), time.Second); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// lineCounter counts log lines.
type lineCounter struct{ lines chan string }

func (c lineCounter) Write(line []byte) (int, error) {
	c.lines <- string(line)
	return len(line), nil
}

// EMFILE: with a full table the listener neither spins nor drops a handoff nor floods the log, and goes on by itself
// once there is room. Each accept asks Admit first, so Admit counts the tries.
func TestEMFILE(t *testing.T) {
	if !inChild(t) {
		return
	}
	const queued, tries = 20, 5
	r := queue(t, queued)
	logged := lineCounter{make(chan string, 1000)}
	slog.SetDefault(slog.New(slog.NewTextHandler(logged, nil)))
	asked := make(chan struct{}, 1_000_000)
	fillers := fillTable(t)
	start := time.Now()
	r.start(fdrecv.Config{Admit: func() bool { asked <- struct{}{}; return true }})
	for range tries {
		await(t, asked)
	}
	if took := time.Since(start); took < (tries-1)*fdrecv.BackOff {
		t.Errorf("%d tries within %v: that is spinning", tries, took)
	}
	if n := len(r.handoffs); n != 0 {
		t.Errorf("%d handoffs came out of a full table", n)
	}
	took := time.Since(start)
	if n := len(logged.lines); n == 0 || n > 1+int(took/time.Second) {
		t.Errorf("%d log lines in %v", n, took)
	}
	closeAll(fillers)
	for range queued {
		h := r.next()
		if h.Err != nil || h.Payload.Prompt != "p" || !h.Client.Valid() {
			t.Errorf("%v, %+v", h.Err, h)
		}
		_ = h.Client.Close()
	}
}

// full is a receiver whose process has no room for a descriptor, and clients for it.
type full struct {
	*receiver
	fillers  []int // one number each
	accepted chan struct{}
	far      []*net.TCPConn // the far ends of the clients that were sent
}

// fill makes a listener with handoffs in its backlog that is served under a full table, but for as many numbers as free
// says. No handoff may be in the hands of the kernel when it is called.
func fill(t *testing.T, kind fdrecv.Kind, queued, free int, cfg fdrecv.Config) *full {
	t.Helper()
	path := socketPath(t)
	r := &full{receiver: &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, kind),
		handoffs: make(chan fdrecv.Handoff, 100)}, accepted: make(chan struct{}, 100)}
	for range queued {
		server, far := fdtest.TCPPair(t)
		if err := fdrecv.Send(path, kind, server.Int(), payloadOf(kind), time.Second); err != nil {
			t.Fatal(err)
		}
		_ = server.Close() // the daemon's is the only one: lost is closed
		r.far = append(r.far, far)
	}
	r.fillers = fillTable(t)
	t.Cleanup(func() { closeAll(r.fillers) })
	r.makeRoom(free)
	cfg.Accepted = func() { r.accepted <- struct{}{} }
	r.start(cfg)
	return r
}

func payloadOf(kind fdrecv.Kind) []byte {
	if kind == fdrecv.KindFDPass {
		return nil
	}
	return []byte(`{"prompt":"p"}`)
}

// makeRoom gives count numbers back.
func (r *full) makeRoom(count int) {
	closeAll(r.fillers[:count])
	r.fillers = r.fillers[count:]
}

// nothing lets the listener try several times, and fails when anything comes of it, or when it spins meanwhile.
func (r *full) nothing() {
	r.t.Helper()
	before := cpuTime(r.t)
	defer func() {
		r.t.Helper()
		if used := cpuTime(r.t) - before; used > 2*fdrecv.BackOff {
			r.t.Errorf("%v of processor time in %v of waiting", used, 4*fdrecv.BackOff)
		}
	}()
	after := time.NewTimer(4 * fdrecv.BackOff)
	defer after.Stop()
	select {
	case h := <-r.handoffs:
		r.t.Fatalf("client %t, %v, from a full table", h.Client.Valid(), h.Err)
	case <-after.C:
	}
}

// cpuTime is what this process has used so far.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// client is the next handoff, which must be the next client, alive and with its payload.
func (r *full) client() fdrecv.Handoff {
	r.t.Helper()
	h := r.next()
	if h.Err != nil || h.Payload.Prompt != "p" && h.Kind != fdrecv.KindFDPass {
		r.t.Fatalf("%v, prompt %q", h.Err, h.Payload.Prompt)
	}
	talk(r.t, h.Client.Int(), r.far[0])
	r.far = r.far[1:]
	return h
}

// P-18: with room for one descriptor the accept takes it, and the client has none. Goal: that client waits, as those
// behind it in the backlog do, and none is lost. Method: of three handoffs the first is accepted with the last
// descriptor; then one more at a time gets free.
func TestP18NoRoomForTheClient(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, kind := range append(kinds, fdrecv.KindFDPass) {
		r := fill(t, kind, 3, 1, fdrecv.Config{})
		await(t, r.accepted)
		r.nothing()
		r.makeRoom(1)
		first := r.client() // in that room; its handoff socket's is free again, and the second takes it
		await(t, r.accepted)
		r.nothing()
		_ = first.Client.Close()
		second := r.client()
		await(t, r.accepted)
		r.nothing()
		r.makeRoom(len(r.fillers))
		third := r.client()
		_, _ = second.Client.Close(), third.Client.Close()
		r.stop()
	}
}

// late has a handoff accepted while there is room, and sent once there is none. The client's far end is r.far[0]; sender is
// the handoff socket's.
func late(t *testing.T, kind fdrecv.Kind) (r *full, sender int) {
	t.Helper()
	server, far := fdtest.TCPPair(t)
	r = fill(t, kind, 0, 2, fdrecv.Config{Timeout: 2 * fdrecv.BackOff})
	r.far = append(r.far, far)
	conn := fdtest.Dial(t, r.path, socketType(kind)) // one of the two
	await(t, r.accepted)                             // the other
	fdtest.SendFDs(t, conn.Int(), payloadOf(kind), server.Int())
	r.plug(server.Release())
	return r, conn.Release()
}

// plug closes n and keeps its number taken.
func (r *full) plug(n int) {
	r.t.Helper()
	if err := unix.Dup2(r.fillers[0], n); err != nil {
		r.t.Fatal(err)
	}
	r.fillers = append(r.fillers, n)
}

// The same for a handoff that was accepted when there was room and came when there was none, whose sender is gone by
// now: it has no deadline then, and a drain waits for it.
func TestP18NoRoomForALateClient(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, kind := range kinds {
		r, sender := late(t, kind)
		r.plug(sender)
		r.nothing()
		drained := make(chan struct{})
		r.ln.Drain(func() { close(drained) })
		r.nothing()
		select {
		case <-drained:
			t.Error("drained, with a client that waits")
		default:
		}
		r.makeRoom(len(r.fillers))
		h := r.client()
		<-drained
		_ = h.Client.Close()
	}
}

// A listener that lets go of its socket still owes the client that waits, whose sender may be there yet. The descriptor
// of that very socket is the room.
func TestLetGoWithoutRoom(t *testing.T) {
	if !inChild(t) {
		return
	}
	for _, kind := range kinds {
		r, sender := late(t, kind)
		r.nothing()
		done := make(chan struct{})
		r.ln.LetGo(func() { close(done) })
		if kind == fdrecv.KindStream { // complete at the end
			r.plug(sender)
			sender = -1
		}
		h := r.client()
		<-done
		_ = h.Client.Close()
		if sender >= 0 {
			_ = unix.Close(sender)
		}
		r.makeRoom(len(r.fillers))
	}
}

// Close ends the wait: the outcome says so, and nothing is left.
func TestCloseWithoutRoom(t *testing.T) {
	if !inChild(t) {
		return
	}
	fdtest.NoLeaks(t)
	r := fill(t, fdrecv.KindSeqpacket, 1, 1, fdrecv.Config{})
	await(t, r.accepted)
	r.nothing()
	r.ln.Close()
	if h := r.next(); !errors.Is(h.Err, fdrecv.ErrClosed) || h.Client.Valid() {
		t.Errorf("%v, client %t", h.Err, h.Client.Valid())
	}
	r.makeRoom(len(r.fillers))
	if err := r.far[0].SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.far[0].Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client is still open: %v", err)
	}
}

// As long as Admit says no, nothing is accepted and nothing is lost.
func TestAdmit(t *testing.T) {
	r := queue(t, 3)
	asked, room := make(chan struct{}, 1000), false
	start := time.Now()
	r.start(fdrecv.Config{Admit: func() bool { asked <- struct{}{}; return room }})
	for range 4 {
		await(t, asked)
	}
	if took := time.Since(start); took < 3*fdrecv.BackOff {
		t.Errorf("asked 4 times within %v", took)
	}
	if n := len(r.handoffs); n != 0 {
		t.Errorf("%d handoffs although Admit said no", n)
	}
	r.inTurn(func() { room = true })
	for range 3 {
		h := r.next()
		if h.Err != nil {
			t.Error(h.Err)
		}
		_ = h.Client.Close()
	}
}
