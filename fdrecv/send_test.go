package fdrecv_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// P-01: Send returns without an answer, before anybody has accepted; each kind and size arrives as it was sent, and
// the caller keeps its copy of the client.
func TestP01Send(t *testing.T) {
	for _, tt := range []struct {
		kind    fdrecv.Kind
		payload []byte
	}{
		{fdrecv.KindStream, nil},
		{fdrecv.KindStream, []byte{}},
		{fdrecv.KindStream, jsonOf(100)},
		{fdrecv.KindSeqpacket, nil},
		{fdrecv.KindSeqpacket, jsonOf(100)},
		{fdrecv.KindSeqpacket, jsonOf(fdrecv.PayloadMax)}, // P-06: the largest at default buffers
		{fdrecv.KindFDPass, nil},
	} {
		t.Run(fmt.Sprintf("%v/%d", tt.kind, len(tt.payload)), func(t *testing.T) {
			fdtest.NoLeaks(t)
			path := socketPath(t)
			r := &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, tt.kind),
				handoffs: make(chan fdrecv.Handoff, 1)}
			server, far := fdtest.TCPPair(t)
			if err := fdrecv.Send(path, tt.kind, server.Int(), tt.payload, time.Second); err != nil {
				t.Fatal(err)
			}
			talk(t, server.Int(), far) // still ours
			_ = server.Close()
			r.start(fdrecv.Config{})
			h := r.next()
			if h.Err != nil || string(h.Payload.Raw()) != string(tt.payload) {
				t.Errorf("%v, %d bytes, want %d", h.Err, len(h.Payload.Raw()), len(tt.payload))
			}
			checkClient(t, h, true, far)
		})
	}
}

// What the kernel does not take at once follows in further sends (P-06): a payload larger than the socket's buffer gets
// through while somebody reads, and ends in ETIMEDOUT while nobody does.
func TestSendInPieces(t *testing.T) {
	fdtest.NoLeaks(t)
	server, far := fdtest.TCPPair(t)
	defer server.Close()
	path := socketPath(t)
	r := &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, fdrecv.KindStream),
		handoffs: make(chan fdrecv.Handoff, 2)}
	payload := jsonOf(256<<10 - 1)
	sender, err := fdrecv.NewSender(path, fdrecv.KindStream)
	if err != nil {
		t.Fatal(err)
	}
	const timeout = 30 * time.Millisecond
	start := time.Now()
	if err := sender.Send(server.Int(), jsonOf(2<<20), timeout); !errors.Is(err, unix.ETIMEDOUT) {
		t.Errorf("nobody reads: %v, want ETIMEDOUT", err)
	}
	if took := time.Since(start); took < timeout {
		t.Errorf("gave up after %v", took)
	}
	sent := make(chan error)
	go func() { sent <- sender.Send(server.Int(), payload, patience) }()
	r.start(fdrecv.Config{PayloadMax: 256<<10 - 1})
	if err := <-sent; err != nil {
		t.Error(err)
	}
	h := r.next() // what was given up
	checkClient(t, h, true, far)
	if h.Err == nil {
		t.Error("half a payload was taken for whole")
	}
	h = r.next()
	if h.Err != nil || len(h.Payload.Raw()) != len(payload) {
		t.Errorf("%v, %d bytes, want %d", h.Err, len(h.Payload.Raw()), len(payload))
	}
	checkClient(t, h, true, far)
}

// The errors that a sender decides on come through as the kernel's.
func TestSendErrors(t *testing.T) {
	fdtest.NoLeaks(t)
	stream, packet, gone := socketPath(t), socketPath(t), socketPath(t)
	listen(t, stream, fdrecv.KindStream)
	listen(t, packet, fdrecv.KindSeqpacket)
	stale(t, gone, unix.SOCK_STREAM)
	full := socketPath(t)
	ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: full, Kind: fdrecv.KindFDPass, Mode: 0o600, Backlog: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	fillBacklog(t, full, fdrecv.KindStream)
	for _, tt := range []struct {
		name    string
		path    string
		kind    fdrecv.Kind
		client  int
		payload []byte
		want    error
	}{
		{"nobody bound", stream + "x", fdrecv.KindStream, 0, nil, unix.ENOENT},
		{"nobody listens", gone, fdrecv.KindStream, 0, nil, unix.ECONNREFUSED},
		{"P-03: packet sender, stream path", stream, fdrecv.KindSeqpacket, 0, nil, unix.EPROTOTYPE},
		{"P-03: stream sender, packet path", packet, fdrecv.KindStream, 0, nil, unix.EPROTOTYPE},
		{"P-06: too large for a message", packet, fdrecv.KindSeqpacket, 0, jsonOf(300_000), unix.EMSGSIZE},
		{"P-06: a byte too large for a message", packet, fdrecv.KindSeqpacket, 0, jsonOf(fdrecv.PayloadMax + 1), unix.EMSGSIZE},
		{"P-02: backlog full", full, fdrecv.KindStream, 0, nil, unix.EAGAIN},
		{"P-02: backlog full for as long as fdpass waits", full, fdrecv.KindFDPass, 0, nil, unix.EAGAIN},
		{"no client", stream, fdrecv.KindStream, -1, nil, unix.EBADF},
		{"a payload with fdpass", full, fdrecv.KindFDPass, 0, []byte("{}"), fdrecv.ErrPayloadOnFDPass},
		{"path too long", string(make([]byte, 108)), fdrecv.KindStream, 0, nil, unix.EINVAL},
		{"no path", "", fdrecv.KindStream, 0, nil, unix.EINVAL},
		{"no such kind", stream, 50, 0, nil, unix.EINVAL},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const timeout = 20 * time.Millisecond
			start := time.Now()
			err := fdrecv.Send(tt.path, tt.kind, tt.client, tt.payload, timeout)
			if !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
			if tt.path == full && tt.kind == fdrecv.KindFDPass && tt.payload == nil && time.Since(start) < timeout/2 {
				t.Error("fdpass did not wait for a place in the backlog")
			}
		})
	}
}

// A refused sender hears of it while it still sends: EPIPE or ECONNRESET, no signal.
func TestSendRefused(t *testing.T) {
	fdtest.NoLeaks(t)
	r := serve(t, fdrecv.KindStream, fdrecv.Config{PayloadMax: 1000})
	server, far := fdtest.TCPPair(t)
	defer server.Close()
	err := fdrecv.Send(r.path, fdrecv.KindStream, server.Int(), jsonOf(4<<20), patience)
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("%v", err)
	}
	h := r.next()
	if !errors.Is(h.Err, fdrecv.ErrTooLarge) {
		t.Errorf("%v", h.Err)
	}
	checkClient(t, h, true, far)
}

// A harness sends tens of thousands a second: neither way of sending may allocate.
func TestSenderAllocatesNothing(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	listen(t, path, fdrecv.KindSeqpacket)
	server, _ := streamPair(t)
	sender, err := fdrecv.NewSender(path, fdrecv.KindSeqpacket)
	if err != nil {
		t.Fatal(err)
	}
	payload := jsonOf(200)
	if n := testing.AllocsPerRun(100, func() {
		if err := sender.Send(server.Int(), payload, time.Second); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("Send allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		conn, err := sender.Connect()
		if err != nil {
			t.Fatal(err)
		}
		if rest, err := sender.SendOn(conn.Int(), server.Int(), payload); err != nil || len(rest) > 0 {
			t.Fatal(rest, err)
		}
		_ = conn.Close()
	}); n != 0 {
		t.Errorf("Connect and SendOn allocate %v times", n)
	}
}

// BenchmarkHandoff is the receiving side of a complete handoff with a payload of 200 bytes, on the loop: the senders
// have filled the backlog before. What the callback does with the client is its close here, which is subtracted
// nowhere.
func BenchmarkHandoff(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.String(), func(b *testing.B) {
			path := socketPath(b)
			l := newLoop(b)
			ln := listen(b, path, kind)
			server, _ := fdtest.TCPPair(b)
			defer server.Close()
			received := 0
			const batch = 1024
			if err := ln.Serve(l, fdrecv.Config{
				AcceptBudget: batch,
				Handoff: func(h fdrecv.Handoff) {
					if h.Err != nil {
						b.Error(h.Err)
					}
					_ = h.Client.Close()
					received++
				},
			}); err != nil {
				b.Fatal(err)
			}
			sender, err := fdrecv.NewSender(path, kind)
			if err != nil {
				b.Fatal(err)
			}
			onLoop := func(f func()) {
				done := make(chan struct{})
				if err := l.Post(func() { f(); close(done) }); err != nil {
					b.Fatal(err)
				}
				<-done
			}
			payload := jsonOf(200)
			b.ReportAllocs()
			b.ResetTimer()
			for left := b.N; left > 0; {
				b.StopTimer()
				n := min(left, batch)
				onLoop(func() {
					for range n { // the loop is busy with this, so nothing is accepted meanwhile
						if err := sender.Send(server.Int(), payload, time.Second); err != nil {
							b.Error(err)
						}
					}
					b.StartTimer()
					ln.AcceptTurn()
					b.StopTimer()
				})
				left -= n
				b.StartTimer()
			}
			if received != b.N {
				b.Errorf("%d received, want %d", received, b.N)
			}
		})
	}
}
