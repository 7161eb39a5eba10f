package main_test

import (
	"bufio"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai"
)

// cancelBar is how soon the upstream must hear that a client has gone. It is held against the best of a few: on a busy
// machine any one of them may wait for a processor.
const cancelBar = 50 * time.Millisecond

// Goal: a client that leaves takes its completion with it at once, not at the next event: its tokens are paid for.
// Method: replies that say one word and then nothing, or nothing at all; the mock notes when each was cancelled.
func TestClientGoneCancelsUpstream(t *testing.T) {
	for name, script := range map[string]mock.Script{
		"within the text": {Delay: mock.Duration(time.Hour)},
		"before the text": {First: mock.Duration(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			overRoutes(t, openai.Options{}, func(t *testing.T, r *rig) {
				const tries = 5
				left := map[string]time.Time{}
				for i := range tries {
					script.Tag = strconv.Itoa(i)
					c := r.handoff(payload(t, script))
					in := bufio.NewReader(c)
					for line := ""; line != "\r\n" && !strings.HasPrefix(line, "data:"); { // its head, or its first event
						var err error
						if line, err = in.ReadString('\n'); err != nil {
							t.Fatal(err)
						}
						if line == "\r\n" && name == "within the text" {
							line = ""
						}
					}
					left[script.Tag] = time.Now()
					_ = c.Close()
				}
				fdtest.Eventually(t, "every completion to be cancelled", func() bool { return r.mock.Stats().Cancelled == tries })
				best := time.Hour
				for _, c := range r.mock.Stats().Cancels {
					best = min(best, c.At.Sub(left[c.Tag]))
				}
				if best > cancelBar || best < 0 {
					t.Errorf("the upstream heard after %v", best)
				}
				r.quiet()
			})
		})
	}
}

// Goal: a thousand clients that read nothing hold bounded memory, ours as the counts show it and the kernel's, stop their
// completions and nobody else's. Method: endless replies as fast as they go to the thousand; once the upstream cannot
// send to any of them, others read theirs whole, over the same connections where it is HTTP/2.
func TestThousandClientsThatReadNothing(t *testing.T) {
	const readers, stuck = 20, 1000 / slowdown
	for _, to := range []route{routes[0], routes[3]} { // a connection for each of them, and a few for all
		t.Run(to.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			r := newRig(t, to, openai.Options{})
			endless := payload(t, mock.Script{Events: -1, Bytes: 8000})
			var clients []*net.TCPConn
			for range stuck {
				clients = append(clients, r.handoff(endless))
			}
			// Hundreds of megabytes go through first.
			within(t, time.Minute, "every call to be paused", func() bool { return r.backend.Counts().Upstream.Paused == stuck })
			// The high watermark of a client, 64 KiB, and what one read or one window of its call may add.
			const most = stuck * (64 + 64 + 64) << 10
			if pending := r.server.Counts().Pending; pending == 0 || pending > most {
				t.Errorf("%d bytes wait for %d clients", pending, stuck)
			}
			fdtest.Eventually(t, "the upstream to be stuck", func() bool {
				before := r.mock.Stats().Texts
				_, body := r.ask(payload(t, mock.Script{Events: 1}))
				return len(events(t, body)) == 3 && r.mock.Stats().Texts == before+1
			})
			// What is unread of a call is bounded by its socket's SO_RCVBUF, 64 KiB, which the kernel doubles (socket(7)), and
			// the segment of at most 64 KiB that fills it; over HTTP/2 by its window. Without a bound it was 450 KB a call.
			if unread := r.unread(); unread > stuck*(2*64+64)<<10 {
				t.Errorf("the kernel holds %d bytes of %d calls", unread, stuck)
			}
			script := mock.Script{Events: 50, Text: "words", Delay: mock.Duration(2 * time.Millisecond)}
			want := relayed(script)
			var waits []time.Duration
			for range readers {
				began := time.Now()
				_, body := r.ask(payload(t, script))
				if got := events(t, body); !slices.Equal(got, want) {
					t.Fatalf("a client that reads got %q", got)
				}
				waits = append(waits, time.Since(began))
			}
			slices.Sort(waits)
			// One of them may have waited for a processor of a busy machine, not half of them.
			if usual, longest := waits[readers/2], waits[readers-1]; usual > patience/40 || longest > patience/10 {
				t.Errorf("clients that read waited %v, at most %v, for 100 ms of text", usual, longest)
			}
			if n := r.backend.Counts().Upstream.Paused; n != stuck {
				t.Errorf("%d calls are paused", n)
			}
			// One of them reads at last: everything goes on for it.
			_ = clients[0].SetDeadline(time.Now().Add(patience))
			if n, err := io.CopyN(io.Discard, clients[0], 4<<20); err != nil {
				t.Errorf("a client that reads late got %d bytes, then %v", n, err)
			}
			for _, c := range clients {
				_ = c.Close()
			}
			r.quiet()
			if pending := r.server.Counts().Pending; pending != 0 {
				t.Errorf("%d bytes wait for nobody", pending)
			}
		})
	}
}
