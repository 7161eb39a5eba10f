package fdrecv_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// jsonOf is a payload of exactly size bytes.
func jsonOf(size int) []byte {
	const frame = `{"prompt":""}`
	return []byte(`{"prompt":"` + strings.Repeat("x", size-len(frame)) + `"}`)
}

// badClient is a descriptor that is no client; the test closes it.
type badClient struct {
	name string
	open func(t *testing.T) loop.FD
}

var badClients = []badClient{
	{"pipe", func(t *testing.T) loop.FD {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		_ = unix.Close(p[1])
		return loop.OwnFD(p[0])
	}},
	{"file", func(t *testing.T) loop.FD {
		n, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		return loop.OwnFD(n)
	}},
	{"datagram socket, connected", func(t *testing.T) loop.FD {
		a, b := fdtest.SocketPair(t, unix.SOCK_DGRAM)
		t.Cleanup(func() { _ = b.Close() })
		return a
	}},
	{"UDP socket, connected", func(t *testing.T) loop.FD {
		fd := newSocket(t, unix.AF_INET, unix.SOCK_DGRAM)
		if err := unix.Connect(fd.Int(), &unix.SockaddrInet4{Port: 9, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		return fd
	}},
	{"stream socket, not connected", func(t *testing.T) loop.FD { return newSocket(t, unix.AF_INET, unix.SOCK_STREAM) }},
	{"stream socket, listening", func(t *testing.T) loop.FD {
		fd := newSocket(t, unix.AF_INET, unix.SOCK_STREAM)
		if err := unix.Listen(fd.Int(), 1); err != nil {
			t.Fatal(err)
		}
		return fd
	}},
}

func newSocket(t *testing.T, domain, kind int) loop.FD {
	n, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return loop.OwnFD(n)
}

// checkClient: a handoff that names a client gives that client, close-on-exec, with its address; one that does not
// gives no descriptor. The client is closed.
func checkClient(t *testing.T, h fdrecv.Handoff, want bool, far *net.TCPConn) {
	t.Helper()
	defer h.Client.Close()
	if h.Client.Valid() != want {
		t.Fatalf("a client: %t, want %t (%v)", h.Client.Valid(), want, h.Err)
	}
	if !want {
		if h.ClientAddr.IsValid() {
			t.Errorf("address %v of no client", h.ClientAddr)
		}
		return
	}
	if !fdrecv.CloseOnExec(h.Client.Int()) {
		t.Error("the client socket is not close-on-exec") // MSG_CMSG_CLOEXEC
	}
	if got, want := h.ClientAddr.String(), far.LocalAddr().String(); got != want {
		t.Errorf("address %s, want %s", got, want)
	}
	talk(t, h.Client.Int(), far)
}

// TestHandoff hands over over real sockets, each row with a fresh client, and counts descriptors and goroutines. P-01
// (each client with a valid descriptor comes out, error or not), P-04, P-06, P-11, P-17, P-21.
func TestHandoff(t *testing.T) {
	small := []byte(`{"prompt":"hi"}`)
	type pieces [][]byte
	stream, packet, fdpass := fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass
	tests := []struct {
		name   string
		kinds  []fdrecv.Kind
		fds    int // copies of the client socket beside the first piece
		pieces pieces
		later  int // copies beside the second piece
		want   error
		client bool
		prompt string
		head   bool
	}{
		{name: "one piece", kinds: kinds, fds: 1, pieces: pieces{small}, client: true, prompt: "hi"},
		{name: "P-06: the size limit", kinds: kinds, fds: 1, pieces: pieces{jsonOf(fdrecv.PayloadMax)}, client: true,
			prompt: strings.Repeat("x", fdrecv.PayloadMax-13)},
		{name: "P-04: one byte over the limit", kinds: kinds, fds: 1, pieces: pieces{jsonOf(fdrecv.PayloadMax + 1)},
			want: fdrecv.ErrTooLarge, client: true},
		{name: "P-04: larger than the buffer", kinds: []fdrecv.Kind{packet}, fds: 1, pieces: pieces{jsonOf(300_000)},
			want: fdrecv.ErrTooLarge, client: true},
		{name: "1-byte pieces", kinds: []fdrecv.Kind{stream}, fds: 1, pieces: bytes.SplitAfter(small, nil), client: true,
			prompt: "hi"},
		{name: "P-06: 36,544 bytes, then the rest", kinds: []fdrecv.Kind{stream}, fds: 1, client: true,
			pieces: pieces{jsonOf(200_029)[:36_544], jsonOf(200_029)[36_544:]}, prompt: strings.Repeat("x", 200_016)},
		{name: "lone NUL: no payload", kinds: kinds, fds: 1, pieces: pieces{{0}}, client: true},
		{name: "empty message with a descriptor", kinds: []fdrecv.Kind{packet}, fds: 1, pieces: pieces{{}}, client: true},
		{name: "fdpass: the NUL byte", kinds: []fdrecv.Kind{fdpass}, fds: 1, pieces: pieces{{0}}, client: true, head: true},
		{name: "fdpass: a payload", kinds: []fdrecv.Kind{fdpass}, fds: 1, pieces: pieces{small},
			want: fdrecv.ErrMalformed, client: true},
		{name: "fdpass: two descriptors", kinds: []fdrecv.Kind{fdpass}, fds: 2, pieces: pieces{{0}},
			want: fdrecv.ErrExtraFD, client: true, head: true},
		{name: "P-21: no descriptor", kinds: kinds, pieces: pieces{small}, want: fdrecv.ErrNoFD},
		{name: "P-21: a byte without a descriptor", kinds: []fdrecv.Kind{fdpass}, pieces: pieces{{0}},
			want: fdrecv.ErrNoFD},
		{name: "P-17: two descriptors", kinds: kinds, fds: 2, pieces: pieces{small}, want: fdrecv.ErrExtraFD, client: true},
		{name: "P-17: all that we offer room for", kinds: kinds, fds: fdrecv.FDsMax, pieces: pieces{small},
			want: fdrecv.ErrExtraFD, client: true},
		{name: "P-17: one more than we offer room for", kinds: kinds, fds: fdrecv.FDsMax + 1, pieces: pieces{small},
			want: fdrecv.ErrTruncatedControl, client: true},
		{name: "P-17: as many as the kernel passes", kinds: kinds, fds: 253, pieces: pieces{small},
			want: fdrecv.ErrTruncatedControl, client: true},
		{name: "second descriptor in a later piece", kinds: []fdrecv.Kind{stream}, fds: 1,
			pieces: pieces{small[:5], small[5:]}, later: 1, want: fdrecv.ErrExtraFD, client: true},
		{name: "too many descriptors in a later piece", kinds: []fdrecv.Kind{stream}, fds: 1,
			pieces: pieces{small[:5], small[5:]}, later: 100, want: fdrecv.ErrTruncatedControl, client: true},
		{name: "sender that dies half-way", kinds: kinds, fds: 1, pieces: pieces{small[:9]}, want: fdrecv.ErrMalformed,
			client: true},
		{name: "not JSON", kinds: kinds, fds: 1, pieces: pieces{[]byte("hello")}, want: fdrecv.ErrMalformed, client: true},
		{name: "NUL after the payload", kinds: kinds, fds: 1, pieces: pieces{append(bytes.Clone(small), 0)},
			want: fdrecv.ErrMalformed, client: true},
		{name: "P-06: nothing at all", kinds: []fdrecv.Kind{stream, packet, fdpass}, want: fdrecv.ErrNoHandoff},
	}
	for _, tt := range tests {
		for _, kind := range tt.kinds {
			t.Run(fmt.Sprintf("%s/%v", tt.name, kind), func(t *testing.T) {
				fdtest.NoLeaks(t)
				r := serve(t, kind, fdrecv.Config{})
				server, far := fdtest.TCPPair(t)
				conn := fdtest.Dial(t, r.path, socketType(kind))
				// what lets a sender send more than the default limit in one message
				_ = unix.SetsockoptInt(conn.Int(), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 1<<20)
				for i, piece := range tt.pieces {
					fds := 0
					switch i {
					case 0:
						fds = tt.fds
					case 1:
						fds = tt.later
					}
					copies := make([]int, fds)
					for j := range copies {
						copies[j] = server.Int()
					}
					fdtest.SendFDs(t, conn.Int(), piece, copies...)
				}
				if kind != fdrecv.KindFDPass || len(tt.pieces) == 0 {
					_ = conn.Close() // fdpass: complete without it
				}
				defer conn.Close()
				_ = server.Close()
				h := r.next()
				if !errors.Is(h.Err, tt.want) {
					t.Errorf("error %v, want %v", h.Err, tt.want)
				}
				if h.Payload.Prompt != tt.prompt || h.Kind != kind || tt.client && h.HeadSent != tt.head {
					t.Errorf("prompt of %d bytes, want %d; kind %v, want %v; head sent %t, want %t", len(h.Payload.Prompt),
						len(tt.prompt), h.Kind, kind, h.HeadSent, tt.head)
				}
				checkClient(t, h, tt.client, far)
				if n := r.ln.PendingCount(); n != 0 {
					t.Errorf("%d pending", n)
				}
			})
		}
	}
}

// P-11, P-17: what is not a connected stream socket is closed, and there is nobody to answer. With a client behind it
// in the same message it is still the first descriptor that counts.
func TestP11NotAClient(t *testing.T) {
	for _, bad := range badClients {
		for _, kind := range kinds {
			for _, extra := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/extra=%t", bad.name, kind, extra), func(t *testing.T) {
					fdtest.NoLeaks(t)
					r := serve(t, kind, fdrecv.Config{})
					fd := bad.open(t)
					defer fd.Close()
					fds := []int{fd.Int()}
					if extra {
						server, _ := fdtest.TCPPair(t)
						defer server.Close()
						fds = append(fds, server.Int())
					}
					conn := fdtest.Dial(t, r.path, socketType(kind))
					defer conn.Close()
					fdtest.SendFDs(t, conn.Int(), []byte(`{}`), fds...)
					h := r.next()
					if !errors.Is(h.Err, fdrecv.ErrNotStreamSocket) || h.Client.Valid() {
						t.Errorf("%v, client %t", h.Err, h.Client.Valid())
					}
					expectEOF(t, conn.Int())
				})
			}
		}
	}
}

// A client that reset its connection before we looked is no fault of the sender's, and is told apart.
func TestClientGone(t *testing.T) {
	fdtest.NoLeaks(t)
	r := serve(t, fdrecv.KindSeqpacket, fdrecv.Config{})
	server, far := fdtest.TCPPair(t)
	defer server.Close()
	if err := far.SetLinger(0); err != nil {
		t.Fatal(err)
	}
	_ = far.Close() // a reset
	fds := []unix.PollFd{{Fd: int32(server.Int()), Events: unix.POLLIN}}
	if _, err := unix.Poll(fds, int(patience/time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := fdrecv.Send(r.path, fdrecv.KindSeqpacket, server.Int(), nil, time.Second); err != nil {
		t.Fatal(err)
	}
	h := r.next()
	if !errors.Is(h.Err, fdrecv.ErrClientGone) || !errors.Is(h.Err, unix.ECONNRESET) || h.Client.Valid() {
		t.Errorf("%v, client %t", h.Err, h.Client.Valid())
	}
}

// P-11, P-13: the client may be a Unix stream socket, without an address, or come over IPv6; its flags are left as the
// sender had them, because the description is shared with the sender's copy.
func TestP13OtherClients(t *testing.T) {
	fdtest.NoLeaks(t)
	r := serve(t, fdrecv.KindSeqpacket, fdrecv.Config{})
	server, _ := streamPair(t)
	if err := fdrecv.Send(r.path, fdrecv.KindSeqpacket, server.Int(), nil, time.Second); err != nil {
		t.Fatal(err)
	}
	h := r.next()
	defer h.Client.Close()
	if h.Err != nil || h.ClientAddr.IsValid() {
		t.Errorf("%v, address %v", h.Err, h.ClientAddr)
	}
	if flags, err := unix.FcntlInt(uintptr(h.Client.Int()), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("flags %#x, %v: O_NONBLOCK was not set by the sender", flags, err)
	}
	server6, far, ok := fdtest.TCP6Pair(t)
	if !ok {
		return // no IPv6 on this machine
	}
	defer server6.Close()
	if err := fdrecv.Send(r.path, fdrecv.KindSeqpacket, server6.Int(), nil, time.Second); err != nil {
		t.Fatal(err)
	}
	checkClient(t, r.next(), true, far)
}

// P-20: the sender sees its connection closed although it keeps its own end open, and by the time that the handoff is
// reported; for the kinds that have an end of their own. The same for a handoff that had to wait for its second half.
func TestP20ClosedInTheSameTurn(t *testing.T) {
	for _, kind := range []fdrecv.Kind{fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v/late=%t", kind, late), func(t *testing.T) {
				fdtest.NoLeaks(t)
				r := serve(t, kind, fdrecv.Config{})
				server, _ := streamPair(t)
				conn := fdtest.Dial(t, r.path, socketType(kind))
				defer conn.Close()
				if late {
					fdtest.Eventually(t, "a pending handoff", func() bool { return r.ln.PendingCount() == 1 })
				}
				fdtest.SendFDs(t, conn.Int(), []byte{0}, server.Int())
				h := r.next()
				defer h.Client.Close()
				r.inTurn(func() {}) // perhaps still in the turn of the handoff, before its sweep
				r.inTurn(func() {}) // now that turn is over
				n, _, err := unix.Recvfrom(conn.Int(), make([]byte, 1), unix.MSG_DONTWAIT)
				if n != 0 || err != nil {
					t.Errorf("the sender reads %d, %v, want the end", n, err)
				}
				if h.Err != nil {
					t.Error(h.Err)
				}
			})
		}
	}
}

// A handoff that comes in parts, over several turns: the descriptor in one, the payload in others, a second descriptor
// at last. Goal: the path through epoll judges as the direct one does.
func TestPieceByPiece(t *testing.T) {
	payload := []byte(`{"prompt":"in pieces","user_id":7}`)
	for _, second := range []bool{false, true} {
		t.Run(fmt.Sprintf("second=%t", second), func(t *testing.T) {
			fdtest.NoLeaks(t)
			r := serve(t, fdrecv.KindStream, fdrecv.Config{})
			server, far := fdtest.TCPPair(t)
			conn := fdtest.Dial(t, r.path, unix.SOCK_STREAM)
			defer conn.Close()
			fdtest.Eventually(t, "a pending handoff", func() bool { return r.ln.PendingCount() == 1 })
			for i := range payload {
				if i == 0 {
					fdtest.SendFDs(t, conn.Int(), payload[:1], server.Int())
				} else {
					fdtest.SendFDs(t, conn.Int(), payload[i:i+1])
				}
				r.inTurn(func() {}) // epoll has been looked at since
			}
			if second {
				fdtest.SendFDs(t, conn.Int(), payload[:1], server.Int())
			}
			_ = conn.Close()
			_ = server.Close()
			h := r.next()
			if second {
				if !errors.Is(h.Err, fdrecv.ErrExtraFD) {
					t.Errorf("%v", h.Err)
				}
			} else if h.Err != nil || h.Payload.Prompt != "in pieces" || h.Payload.UserID != "7" {
				t.Errorf("%v, %+v", h.Err, h.Payload)
			}
			checkClient(t, h, true, far)
		})
	}
}

// A sender that fails (not just closes) after the descriptor came: closing over unread bytes resets a Unix socket. We
// never write to one, so the test does.
func TestBrokenOff(t *testing.T) {
	fdtest.NoLeaks(t)
	a, b := fdtest.SocketPair(t, unix.SOCK_STREAM)
	defer a.Close()
	defer b.Close()
	server, far := fdtest.TCPPair(t)
	defer server.Close()
	fdtest.SendFDs(t, b.Int(), []byte(`{"prompt":`), server.Int())
	first, h := fdrecv.ReceiveOn(a.Int(), fdrecv.KindStream, func() {
		if _, err := unix.Write(a.Int(), []byte("x")); err != nil {
			t.Fatal(err)
		}
		_ = b.Close()
	})
	if first || !errors.Is(h.Err, fdrecv.ErrBroken) || !errors.Is(h.Err, unix.ECONNRESET) {
		t.Errorf("done early: %t; %v", first, h.Err)
	}
	checkClient(t, h, true, far)
}

// P-21, P-23: who connects and says nothing is closed after the timeout; who sent the descriptor and then nothing too,
// and the client comes out for its 408.
func TestP23Timeout(t *testing.T) {
	const timeout = 40 * time.Millisecond
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
		for _, withClient := range []bool{false, true} {
			if withClient && kind != fdrecv.KindStream {
				continue // complete with the descriptor
			}
			t.Run(fmt.Sprintf("%v/client=%t", kind, withClient), func(t *testing.T) {
				fdtest.NoLeaks(t)
				r := serve(t, kind, fdrecv.Config{Timeout: timeout})
				server, far := fdtest.TCPPair(t)
				defer server.Close()
				start := time.Now()
				conn := fdtest.Dial(t, r.path, socketType(kind))
				defer conn.Close()
				if withClient {
					fdtest.SendFDs(t, conn.Int(), []byte("{"), server.Int())
				}
				h := r.next()
				if took := time.Since(start); took < timeout {
					t.Errorf("after %v, before the timeout of %v", took, timeout)
				}
				if !errors.Is(h.Err, fdrecv.ErrTimeout) {
					t.Errorf("%v", h.Err)
				}
				checkClient(t, h, withClient, far)
				expectEOF(t, conn.Int())
			})
		}
	}
}

// P-01 at the timeout: what arrived while the loop stalled past the deadline is received, not timed out.
func TestP01CompleteAtTheTimeout(t *testing.T) {
	fdtest.NoLeaks(t)
	const timeout = 30 * time.Millisecond
	r := serve(t, fdrecv.KindSeqpacket, fdrecv.Config{Timeout: timeout})
	server, far := fdtest.TCPPair(t)
	defer server.Close()
	conn := fdtest.Dial(t, r.path, unix.SOCK_SEQPACKET)
	defer conn.Close()
	fdtest.Eventually(t, "a pending handoff", func() bool { return r.ln.PendingCount() == 1 })
	r.inTurn(func() {
		// Posted functions run after the readiness of a turn and before its timers: the timer comes first.
		fdtest.SendFDs(t, conn.Int(), []byte{0}, server.Int())
		for start := r.loop.Clock(); r.loop.Clock() < start+2*timeout; {
		}
	})
	h := r.next()
	if h.Err != nil {
		t.Error(h.Err)
	}
	checkClient(t, h, true, far)
}

// P-23: the number of incomplete handoffs is bounded. The oldest silent one goes first, one with a client only when
// there is no other; a new handoff gets through all the same (P-02).
func TestP23PendingBound(t *testing.T) {
	fdtest.NoLeaks(t)
	r := serve(t, fdrecv.KindStream, fdrecv.Config{PendingMax: 3})
	server, far := fdtest.TCPPair(t)
	defer server.Close()
	var conns [5]loop.FD
	dial := func(i int, first []byte) {
		conns[i] = fdtest.Dial(t, r.path, unix.SOCK_STREAM)
		t.Cleanup(func() { _ = conns[i].Close() })
		if first != nil {
			fdtest.SendFDs(t, conns[i].Int(), first, server.Int())
		}
		fdtest.Eventually(t, "a pending handoff", func() bool { return r.ln.PendingCount() == min(i+1, 3) })
		r.inTurn(func() {})
	}
	dial(0, []byte("{"))
	dial(1, nil)
	dial(2, nil)
	dial(3, []byte("{"))
	expectEOF(t, conns[1].Int()) // the oldest silent one
	if h := r.next(); !errors.Is(h.Err, fdrecv.ErrTimeout) || h.Client.Valid() {
		t.Errorf("%v, client %t", h.Err, h.Client.Valid())
	}
	dial(4, []byte("{"))
	expectEOF(t, conns[2].Int())
	if h := r.next(); !errors.Is(h.Err, fdrecv.ErrTimeout) || h.Client.Valid() {
		t.Errorf("%v, client %t", h.Err, h.Client.Valid())
	}
	if err := fdrecv.Send(r.path, fdrecv.KindStream, server.Int(), []byte(`{"prompt":"through"}`), time.Second); err != nil {
		t.Fatal(err)
	}
	// Sent and closed at once it may be complete when it is accepted; then nobody has to make room.
	for h := r.next(); ; h = r.next() {
		if h.Err == nil {
			if h.Payload.Prompt != "through" {
				t.Errorf("%+v", h.Payload)
			}
			checkClient(t, h, true, far)
			break
		}
		checkClient(t, h, true, far)
	}
	r.stop()
}

// The receive buffer is shared: a payload that is kept must not change when the next one comes.
func TestPayloadOutlivesTheNext(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			fdtest.NoLeaks(t)
			r := serve(t, kind, fdrecv.Config{})
			server, _ := streamPair(t)
			var kept []fdrecv.Payload
			prompts := []string{"first", "other", "third"}
			for _, prompt := range prompts {
				payload := []byte(`{"prompt":"` + prompt + `"}`)
				if err := fdrecv.Send(r.path, kind, server.Int(), payload, time.Second); err != nil {
					t.Fatal(err)
				}
				h := r.next()
				_ = h.Client.Close()
				kept = append(kept, h.Payload)
			}
			for i, prompt := range prompts {
				if kept[i].Prompt != prompt || !strings.Contains(string(kept[i].Raw()), prompt) {
					t.Errorf("%q became %q in %q", prompt, kept[i].Prompt, kept[i].Raw())
				}
			}
		})
	}
}

// A burst may not run longer than the budget in one turn. Each turn has a time of its own on the loop's clock.
func TestAcceptBudget(t *testing.T) {
	fdtest.NoLeaks(t)
	const budget, burst = 7, 100
	path := socketPath(t)
	l := newLoop(t)
	r := &receiver{t: t, loop: l, path: path, ln: listen(t, path, fdrecv.KindSeqpacket),
		handoffs: make(chan fdrecv.Handoff, burst)}
	server, _ := streamPair(t)
	for range burst {
		if err := fdrecv.Send(path, fdrecv.KindSeqpacket, server.Int(), nil, time.Second); err != nil {
			t.Fatal(err)
		}
	}
	accepted := 0
	r.start(fdrecv.Config{AcceptBudget: budget, Accepted: func() { accepted++ }})
	perTurn := map[time.Duration]int{}
	for range burst {
		h := r.next()
		_ = h.Client.Close()
		perTurn[h.AcceptedAt]++
	}
	for at, n := range perTurn {
		if n > budget {
			t.Errorf("%d handoffs in the turn at %v, the budget is %d", n, at, budget)
		}
	}
	if want := (burst + budget - 1) / budget; len(perTurn) < want {
		t.Errorf("%d turns, want %d or more", len(perTurn), want)
	}
	r.inTurn(func() {
		if accepted != burst {
			t.Errorf("%d counted as accepted, want %d", accepted, burst)
		}
	})
}

// A panic in any of the callbacks costs neither the listener nor the handoffs behind it, whether the handoff is complete
// when it is accepted or has to wait for its end.
func TestPanicInCallbacks(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind.String(), func(t *testing.T) {
			fdtest.NoLeaks(t)
			handoffs := make(chan fdrecv.Handoff, 8)
			panics := 3
			boom := func(which int) {
				if panics == which {
					panics--
					panic("boom")
				}
			}
			r := serve(t, kind, fdrecv.Config{
				Admit:    func() bool { boom(3); return true },
				Accepted: func() { boom(2) },
				Handoff: func(h fdrecv.Handoff) {
					handoffs <- h
					boom(1)
				},
			})
			r.handoffs = handoffs
			server, _ := streamPair(t)
			for range 4 {
				conn := fdtest.Dial(t, r.path, socketType(kind))
				fdtest.SendFDs(t, conn.Int(), []byte{0}, server.Int())
				if kind == fdrecv.KindStream {
					fdtest.Eventually(t, "the pending handoff", func() bool { return r.ln.PendingCount() == 1 })
				}
				_ = conn.Close()
				h := r.next()
				if h.Err != nil {
					t.Error(h.Err)
				}
				_ = h.Client.Close()
			}
			r.inTurn(func() {
				if panics != 0 {
					t.Errorf("%d panics did not happen", panics)
				}
			})
		})
	}
}
