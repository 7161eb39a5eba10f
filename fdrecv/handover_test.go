package fdrecv_test

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// inherit makes a Listener of a duplicate of ln's socket, as a successor does.
func inherit(t *testing.T, ln *fdrecv.Listener) *fdrecv.Listener {
	t.Helper()
	fd, err := ln.Duplicate()
	if err != nil {
		t.Fatal(err)
	}
	if !fdrecv.CloseOnExec(fd.Int()) {
		t.Error("the duplicate would be inherited by any child")
	}
	successor, err := fdrecv.ListenerFromFD(fd, ln.Kind())
	if err != nil {
		t.Fatal(err)
	}
	return successor
}

// Goal: a socket passes from one Listener to another and no handoff is lost or refused (P-22). Method: a handoff for
// the first; it lets go while half a handoff is under way; then one for the second, which was in the backlog before
// anybody accepted it. What had begun completes where it began. The path is there all the time, also after the first
// was drained and closed, and goes with the second, which claims it.
func TestP22LetGo(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			fdtest.NoLeaks(t)
			first := serve(t, kind, fdrecv.Config{})
			successor := inherit(t, first.ln)
			server, _ := streamPair(t)
			half := fdtest.Dial(t, first.path, socketType(kind))
			defer half.Close()
			fdtest.Eventually(t, "half a handoff", func() bool { return first.ln.PendingCount() == 1 })
			if !first.ln.Listening() {
				t.Error("it serves and says that it does not listen")
			}

			done := make(chan struct{})
			first.ln.LetGo(func() { close(done) })
			if first.ln.Listening() {
				t.Error("it has let go and says that it listens")
			}
			if err := fdrecv.Send(first.path, kind, server.Int(), nil, time.Second); err != nil {
				t.Fatalf("with nobody accepting, before the successor does: %v", err)
			}
			second := &receiver{t: t, loop: newLoop(t), path: first.path, ln: successor,
				handoffs: make(chan fdrecv.Handoff, 1)}
			successor.TakeOver(first.ln.Claim())
			second.start(fdrecv.Config{})
			h := second.next()
			if _ = h.Client.Close(); h.Err != nil {
				t.Error(h.Err)
			}

			select {
			case <-done:
				t.Error("done before what had begun has ended")
			default:
			}
			fdtest.SendFDs(t, half.Int(), []byte{0}, server.Int())
			_ = half.Close()
			h = first.next()
			if _ = h.Client.Close(); h.Err != nil {
				t.Errorf("what had begun before it let go: %v", h.Err)
			}
			await(t, done)

			drained := make(chan struct{})
			first.ln.Drain(func() { close(drained) })
			await(t, drained)
			first.ln.Close()
			if !exists(first.path) {
				t.Fatal("the one that let go has removed the path of its successor")
			}
			if err := fdrecv.Send(first.path, kind, server.Int(), nil, time.Second); err != nil {
				t.Fatalf("after its drain: %v", err)
			}
			h = second.next()
			_ = h.Client.Close()
			successor.Close()
			if exists(first.path) {
				t.Error("the path stays after the end of the one that claims it")
			}
		})
	}
}

// A claim covers the socket file that it was made for and nothing that has its name since.
func TestClaimOfAnotherFile(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	ln := listen(t, path, fdrecv.KindSeqpacket)
	successor := inherit(t, ln)
	successor.TakeOver(ln.Claim())
	ln.LetGo(func() {})
	if err := unix.Rename(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	other := listen(t, path, fdrecv.KindSeqpacket)
	successor.Close()
	if !exists(path) {
		t.Error("the socket of another was removed")
	}
	other.Close()
}

// An inherited Listener claims nothing, so its successor's path stays as well: it is the service manager's.
func TestClaimOfInherited(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	manager := listen(t, path, fdrecv.KindStream)
	defer manager.Close()
	first := inherit(t, manager)
	if c := first.Claim(); c != (fdrecv.Claim{}) {
		t.Errorf("%+v", c)
	}
	second := inherit(t, first)
	second.TakeOver(first.Claim())
	first.Close()
	second.Close()
	if !exists(path) {
		t.Error("the path of the service manager was removed")
	}
}

// After the end there is nothing to duplicate, and nobody waits for a loop that is gone.
func TestDuplicateAfterTheEnd(t *testing.T) {
	fdtest.NoLeaks(t)
	idle := listen(t, socketPath(t), fdrecv.KindStream)
	if !idle.Listening() {
		t.Error("before Serve connects are accepted by the kernel")
	}
	idle.Close()
	served := serve(t, fdrecv.KindStream, fdrecv.Config{})
	served.ln.Close()
	orphan := serve(t, fdrecv.KindStream, fdrecv.Config{})
	orphan.pool.Close()
	for name, ln := range map[string]*fdrecv.Listener{"never served": idle, "closed": served.ln, "without loop": orphan.ln} {
		if fd, err := ln.Duplicate(); err == nil {
			t.Errorf("%s: descriptor %d", name, fd.Int())
		}
		if ln.Listening() {
			t.Errorf("%s: it says that it listens", name)
		}
		called := make(chan struct{})
		ln.LetGo(func() { close(called) })
		await(t, called)
	}
	orphan.ln.Close()
}
