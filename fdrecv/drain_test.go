package fdrecv_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// P-22: 500 handoffs lie in the backlog when the drain begins; every one comes out, some as connections that send
// their payload only afterwards. New connects are refused meanwhile, and done comes last, once.
func TestP22DrainLosesNothing(t *testing.T) {
	const queued, late = 500, 10
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
		t.Run(kind.String(), func(t *testing.T) {
			fdtest.NoLeaks(t)
			path := socketPath(t)
			r := &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, kind),
				handoffs: make(chan fdrecv.Handoff, queued+late)}
			server, _ := streamPair(t)
			for range queued {
				if err := fdrecv.Send(path, kind, server.Int(), nil, time.Second); err != nil {
					t.Fatal(err)
				}
			}
			sender, err := fdrecv.NewSender(path, kind)
			if err != nil {
				t.Fatal(err)
			}
			var lateConns [late]int
			for i := range lateConns {
				conn, err := sender.Connect()
				if err != nil {
					t.Fatal(err)
				}
				lateConns[i] = conn.Release()
			}
			done := make(chan int, 2)
			// Serve and Drain are posted while the loop is held: the drain finds the backlog as it is.
			held, release := make(chan struct{}), make(chan struct{})
			if err := r.loop.Post(func() { close(held); <-release }); err != nil {
				t.Fatal(err)
			}
			<-held
			r.start(fdrecv.Config{AcceptBudget: 16})
			r.ln.Drain(func() { done <- len(r.handoffs) })
			close(release)
			fdtest.Eventually(t, "the drain to reach the late ones", func() bool { return r.ln.PendingCount() == late })
			if err := fdrecv.Send(path, kind, server.Int(), nil, time.Second); !errors.Is(err, unix.ENOENT) {
				t.Errorf("a connect during the drain: %v, want ENOENT: the path is gone", err)
			}
			select {
			case <-done:
				t.Error("done with handoffs pending")
			default:
			}
			for _, conn := range lateConns {
				if _, err := sender.SendOn(conn, server.Int(), nil); err != nil {
					t.Error(err)
				}
				_ = unix.Close(conn)
			}
			select {
			case n := <-done:
				if n != queued+late {
					t.Errorf("%d outcomes at done, want %d", n, queued+late)
				}
			case <-time.After(patience):
				t.Fatal("the drain does not end")
			}
			for range queued + late {
				h := r.next()
				if h.Err != nil || !h.Client.Valid() {
					t.Errorf("%v, client %t", h.Err, h.Client.Valid())
				}
				_ = h.Client.Close()
			}
			r.ln.Drain(func() { done <- -1 }) // once more: at once
			if n := <-done; n != -1 {
				t.Errorf("the first done ran twice")
			}
		})
	}
}

// P-22: while a drain still accepts (it waits for room here), a sender that has resolved the path before gets
// ECONNREFUSED at once, not a place in a backlog that is about to be closed; what was queued comes out.
func TestP22DrainRefusesConnects(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			fdtest.NoLeaks(t)
			room := false
			r := serve(t, kind, fdrecv.Config{Admit: func() bool { return room }})
			server, _ := streamPair(t)
			// A second name of the socket plays the sender that has resolved the path already.
			if err := unix.Link(r.path, r.path+"2"); err != nil {
				t.Fatal(err)
			}
			if err := fdrecv.Send(r.path, kind, server.Int(), nil, time.Second); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{}, 1)
			r.ln.Drain(func() { done <- struct{}{} })
			r.inTurn(func() {})
			if err := fdrecv.Send(r.path+"2", kind, server.Int(), nil, time.Second); !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("%v, want ECONNREFUSED", err)
			}
			r.inTurn(func() { room = true })
			await(t, done)
			h := r.next()
			if h.Err != nil {
				t.Error(h.Err)
			}
			_ = h.Client.Close()
		})
	}
}

// A drain that has no room waits as serving does, and goes on when there is some.
func TestDrainWaitsForRoom(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	r := &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, fdrecv.KindSeqpacket),
		handoffs: make(chan fdrecv.Handoff, 3)}
	server, _ := streamPair(t)
	for range 3 {
		if err := fdrecv.Send(path, fdrecv.KindSeqpacket, server.Int(), nil, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	asked, room := make(chan struct{}, 1000), false
	r.start(fdrecv.Config{Admit: func() bool { asked <- struct{}{}; return room }})
	done := make(chan struct{})
	r.ln.Drain(func() { close(done) })
	for range 3 {
		await(t, asked)
	}
	if n := len(r.handoffs); n != 0 {
		t.Errorf("%d handoffs without room", n)
	}
	r.inTurn(func() { room = true })
	<-done
	for range 3 {
		h := r.next()
		if h.Err != nil {
			t.Error(h.Err)
		}
		_ = h.Client.Close()
	}
}

// Close is the end at once, from every state; the clients of incomplete handoffs come out.
func TestClose(t *testing.T) {
	for _, draining := range []bool{false, true} {
		t.Run(fmt.Sprintf("draining=%t", draining), func(t *testing.T) {
			fdtest.NoLeaks(t)
			r := serve(t, fdrecv.KindStream, fdrecv.Config{})
			server, far := fdtest.TCPPair(t)
			defer server.Close()
			with := fdtest.Dial(t, r.path, unix.SOCK_STREAM)
			defer with.Close()
			fdtest.SendFDs(t, with.Int(), []byte("{"), server.Int())
			silent := fdtest.Dial(t, r.path, unix.SOCK_STREAM)
			defer silent.Close()
			fdtest.Eventually(t, "two pending handoffs", func() bool { return r.ln.PendingCount() == 2 })
			done := make(chan struct{})
			if draining {
				r.ln.Drain(func() { close(done) })
			}
			r.ln.Close()
			r.ln.Close()
			clients := 0
			for range 2 {
				h := r.next()
				if !errors.Is(h.Err, fdrecv.ErrClosed) {
					t.Error(h.Err)
				}
				if h.Client.Valid() {
					clients++
					checkClient(t, h, true, far)
				}
			}
			if clients != 1 {
				t.Errorf("%d clients, want 1", clients)
			}
			if !draining {
				r.ln.Drain(func() { close(done) })
			}
			<-done
			expectEOF(t, with.Int())
			expectEOF(t, silent.Int())
		})
	}
}

// The owner may close the loop first, though it should not: nothing is left all the same, and done runs.
func TestEndAfterLoop(t *testing.T) {
	fdtest.NoLeaks(t)
	r := serve(t, fdrecv.KindStream, fdrecv.Config{})
	server, far := fdtest.TCPPair(t)
	conn := fdtest.Dial(t, r.path, unix.SOCK_STREAM)
	defer conn.Close()
	fdtest.SendFDs(t, conn.Int(), []byte("{"), server.Int())
	_ = server.Close()
	fdtest.Eventually(t, "a pending handoff", func() bool { return r.ln.PendingCount() == 1 })
	r.pool.Close()
	done := false
	r.ln.Drain(func() { done = true })
	if !done {
		t.Error("done did not run")
	}
	if exists(r.path) {
		t.Error("the path stays")
	}
	if err := far.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the client is still open: %v", err)
	}
}
