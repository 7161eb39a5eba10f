package fdrecv_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
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

// P-18: with room for one descriptor the accept takes it, and the kernel cuts the client off. That is seen and said,
// and the listener stops there: the others wait in the backlog until there is room.
func TestP18TruncatedAtTheLimit(t *testing.T) {
	if !inChild(t) {
		return
	}
	const queued = 20
	r := queue(t, queued)
	fillers := fillTable(t)
	_ = unix.Close(fillers[0])
	r.start(fdrecv.Config{Handoff: func(h fdrecv.Handoff) {
		closeAll(fillers[1:]) // from the first outcome on there is room
		fillers = fillers[:1]
		r.handoffs <- h
	}})
	h := r.next()
	if !errors.Is(h.Err, fdrecv.ErrTruncatedControl) || h.Client.Valid() {
		t.Fatalf("%v, client %t", h.Err, h.Client.Valid())
	}
	first := h.AcceptedAt
	for range queued - 1 {
		h := r.next()
		if h.Err != nil || !h.Client.Valid() {
			t.Errorf("%v, client %t", h.Err, h.Client.Valid())
		}
		if h.AcceptedAt < first+fdrecv.BackOff {
			t.Errorf("accepted %v after the table was found full, want a wait of %v", h.AcceptedAt-first, fdrecv.BackOff)
		}
		_ = h.Client.Close()
	}
}

// P-18: Admit keeps the table from getting full: as long as it says no, nothing is accepted and nothing is lost.
func TestP18Admit(t *testing.T) {
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
