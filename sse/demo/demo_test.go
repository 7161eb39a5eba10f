package demo_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/demo"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
	"Connection: close\r\nX-Accel-Buffering: no\r\n"

func rig(t testing.TB, loops int, o demo.Options, change func(*stream.Config)) *streamtest.Rig {
	t.Helper()
	return streamtest.New(t, loops, func(c *stream.Config) {
		c.NewBackend = demo.Maker(o)
		if change != nil {
			change(c)
		}
	})
}

// event is one word as it goes over the wire, spelled out.
func event(word string) string { return `data: {"content":"` + word + "\"}\n\n" }

const done = "data: [DONE]\n\n"

// Goal: the whole of a stream, byte for byte, and how it leaves: the head with the first event, each word by itself,
// the last word with [DONE]. Method: the kernel below the conn records each write.
func TestWholeStreamByteForByte(t *testing.T) {
	for kind, newClient := range streamtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			k := &streamtest.Kernel{}
			r := rig(t, 1, demo.Options{Delay: 100 * time.Millisecond}, func(c *stream.Config) { c.Conn.Kernel = k })
			c := newClient(t)
			h := c.Take()
			h.Payload = streamtest.Payload(t, `{"prompt":"say \"hi\"","response_headers":{"X-Chat":"7"}}`)
			r.Handoff(0, h)
			want := []string{
				head + "X-Chat: 7\r\n\r\n" + event("Hello!"),
				event(" You"), event(" said:"), event(" say"),
				event(` \"hi\"`) + done,
			}
			if got := c.All(); got != strings.Join(want, "") {
				t.Errorf("the client read %q", got)
			}
			if got := k.Writes(c.FD); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("writes\n%q, want\n%q", got, want)
			}
			end := r.AwaitEnds(1)[0]
			if end.Cause != nil || end.Events != 5 || end.Bytes != uint64(len(c.Got)) || end.Duration <= 0 {
				t.Errorf("end %+v", end)
			}
			if n := r.FirstBytes(); n != 1 {
				t.Errorf("%d times to a first byte were observed, want 1", n)
			}
		})
	}
}

// contents parses a whole stream as a client does and gives the text of each event; [DONE] must be the last one.
func contents(t *testing.T, got string) []string {
	t.Helper()
	_, body, ok := strings.Cut(got, "\r\n\r\n")
	if !ok {
		t.Fatalf("no head in %q", got)
	}
	var words []string
	ended := false
	var p sse.Parser
	err := p.Feed([]byte(body), func(e sse.Event) {
		if ended {
			t.Errorf("%q after [DONE]", e.Data)
		}
		if ended = string(e.Data) == "[DONE]"; ended {
			return
		}
		var v struct{ Content *string }
		if err := json.Unmarshal(e.Data, &v); err != nil || v.Content == nil {
			t.Errorf("%q: %v", e.Data, err)
			return
		}
		words = append(words, *v.Content)
	})
	if err != nil || !ended {
		t.Errorf("%v; ended by [DONE]: %v", err, ended)
	}
	return words
}

// Goal: the contents make up the whole text, the prompt cut at 100 characters (not bytes), and the white space stays
// where it was: in front of each word but the first.
func TestText(t *testing.T) {
	const hello = "Hello! You said: "
	tests := []struct{ name, prompt, want string }{
		{"one word", "hi", hello + "hi"},
		{"words", "how are you", hello + "how are you"},
		{"white space", " \ttwo\n\nlines  \u00a0wide ", hello + " \ttwo\n\nlines  \u00a0wide "},
		{"only white space", "   ", hello + "   "},
		{"exactly 100", strings.Repeat("x", 100), hello + strings.Repeat("x", 100)},
		{"101", strings.Repeat("x", 101), hello + strings.Repeat("x", 100)},
		{"100 of two bytes", strings.Repeat("é", 100), hello + strings.Repeat("é", 100)},
		{"cut between runes", strings.Repeat("é", 99) + "😀😀", hello + strings.Repeat("é", 99) + "😀"},
		{"cut inside a word after a space", strings.Repeat("ab ", 34), hello + strings.Repeat("ab ", 33) + "a"},
		{"cut after a space", strings.Repeat("abc ", 30), hello + strings.Repeat("abc ", 25)},
		{"none", "", "Hello! You sent no prompt."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := rig(t, 1, demo.Options{}, nil)
			prompt, err := json.Marshal(tt.prompt)
			if err != nil {
				t.Fatal(err)
			}
			words := contents(t, r.TCP(`{"prompt":`+string(prompt)+`}`).All())
			if got := strings.Join(words, ""); got != tt.want {
				t.Errorf("text %q, want %q", got, tt.want)
			}
			for i, w := range words {
				trimmed := strings.TrimSpace(w)
				if len(strings.Fields(w)) > 1 || i == 0 && w != trimmed {
					t.Errorf("event %d is %q", i, w)
				}
				if i < len(words)-1 && !strings.HasSuffix(w, trimmed) {
					t.Errorf("event %d, %q, ends in white space", i, w)
				}
			}
		})
	}
}

// A handoff without a payload (fdpass sends none, and there the head is Apache's).
func TestNoPayload(t *testing.T) {
	r := rig(t, 1, demo.Options{}, nil)
	c := streamtest.NewTCP(t)
	h := c.Take()
	h.HeadSent = true
	r.Handoff(0, h)
	want := event("Hello!") + event(" You") + event(" sent") + event(" no") + event(" prompt.") + done
	if got := c.All(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMessages(t *testing.T) {
	if len(demo.Message) < 45 || len(demo.Message) > 65 {
		t.Errorf("an event of %d bytes is not about 50", len(demo.Message))
	}
	for _, delay := range []time.Duration{0, time.Millisecond} {
		for _, n := range []int{1, 2, 19} {
			t.Run(fmt.Sprintf("%d every %v", n, delay), func(t *testing.T) {
				k := &streamtest.Kernel{}
				r := rig(t, 1, demo.Options{Delay: delay, Messages: n}, func(c *stream.Config) { c.Conn.Kernel = k })
				c := r.TCP(`{"prompt":"ignored"}`)
				if got, want := c.All(), head+"\r\n"+strings.Repeat(demo.Message, n)+done; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				writes := k.Writes(c.FD)
				if delay == 0 && len(writes) != 1 {
					t.Errorf("%d writes, want one for all: %q", len(writes), writes)
				}
				if delay > 0 && (len(writes) > n || len(writes) < min(n, 2)) { // a late wake may send two at once
					t.Errorf("%d writes for %d events: %q", len(writes), n, writes)
				}
				if end := r.AwaitEnds(1)[0]; end.Events != uint64(n) || end.Cause != nil {
					t.Errorf("end %+v", end)
				}
			})
		}
	}
}

// Goal: without a delay the stream goes as fast as the client reads, with bounded memory, and nothing is lost.
// Method: a client that reads nothing until the stream is paused, then everything.
func TestAsFastAsTheClientReads(t *testing.T) {
	const n = 200_000 // 12 MB: more than the kernel takes for a client that does not read
	for kind, newClient := range streamtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			r := rig(t, 1, demo.Options{Messages: n}, nil)
			c := newClient(t)
			r.Handoff(0, c.Take())
			fdtest.Eventually(t, "a stream that pauses and waits", func() bool {
				counts := r.Server.Counts()
				return counts.Paused == 1 && counts.Pending >= 64<<10
			})
			if p := r.Server.Counts().Pending; p > 64<<10+512 {
				t.Errorf("%d bytes wait, want no more than the high watermark and an event", p)
			}
			if got, want := c.All(), head+"\r\n"+strings.Repeat(demo.Message, n)+done; got != want {
				t.Errorf("%d bytes came, want %d, the same: %v", len(got), len(want), got == want)
			}
		})
	}
}

// Goal: a fast stream does not hold its loop. Method: the first client's stream has 18 MB to send and its client reads
// all the time; a second one with as much begins on the same loop, and gets its first bytes, and a large share of what
// the first one still gets, long before that is done.
func TestTwoFastStreamsShareALoop(t *testing.T) {
	const n = 300_000
	r := rig(t, 1, demo.Options{Messages: n}, nil)
	a, b := r.Unix(""), r.Unix("")
	read := func(c *streamtest.Client) chan int {
		total := make(chan int, 1)
		go func() {
			buf, sum := make([]byte, 256<<10), 0
			for {
				k, err := c.Read(buf)
				if sum += k; err != nil {
					total <- sum
					return
				}
			}
		}()
		return total
	}
	totalA, totalB := read(a), read(b)
	ends := r.AwaitEnds(2)
	for _, total := range []chan int{totalA, totalB} {
		if got, want := <-total, len(head)+2+n*len(demo.Message)+len(done); got != want {
			t.Errorf("%d bytes, want %d", got, want)
		}
	}
	// Were one served first to its end, the other would take twice as long.
	if ends[1].Duration > ends[0].Duration*3/2 {
		t.Errorf("one stream took %v, the other %v", ends[0].Duration, ends[1].Duration)
	}
}

// Goal: with a delay, a client that does not read stops its stream; no timer sends on.
func TestPauseStopsTheClock(t *testing.T) {
	r := rig(t, 1, demo.Options{Delay: time.Millisecond, Messages: 400}, func(c *stream.Config) {
		c.Conn = conn.Config{High: 4 << 10, Low: 1 << 10}
	})
	c := streamtest.NewUnix(t)
	if err := unix.SetsockoptInt(c.FD, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10); err != nil { // full after some 80 events
		t.Fatal(err)
	}
	h := c.Take()
	r.Handoff(0, h)
	fdtest.Eventually(t, "a pause", func() bool { return r.Server.Counts().Paused == 1 })
	r.On(0, func() {})
	before := r.Server.Counts()
	for range 10 { // ten ticks in which a timer would have fired
		tick(t, r)
	}
	if after := r.Server.Counts(); after.Events != before.Events || after.Pending != before.Pending {
		t.Errorf("paused at %d events and %d bytes, then %d and %d", before.Events, before.Pending, after.Events, after.Pending)
	}
	if got, want := c.All(), head+"\r\n"+strings.Repeat(demo.Message, 400)+done; got != want {
		t.Errorf("%d bytes came, want %d", len(got), len(want))
	}
}

// hog is a timer of the same loop that takes most of its time, so that whatever else is due is late by some
// milliseconds.
type hog struct {
	loop.Timer
	loop *loop.Loop
}

func (h *hog) Fire() {
	const spin = 6 * time.Millisecond
	for start := h.loop.Clock(); h.loop.Clock() < start+spin; {
	}
	h.loop.Arm(&h.Timer, h.loop.Clock())
}
func (h *hog) Failed(error) {}

// Goal: lateness does not add up. Method: a loop that is busy 6 ms at a time, so that each wake is late by 3 ms or so;
// were each event scheduled from the one before, 40 of them would be late by more than 100 ms. A loaded machine may
// delay the whole once, so the best of several counts.
func TestFixedGrid(t *testing.T) {
	const n, delay, late = 41, 10 * time.Millisecond, 50 * time.Millisecond
	best := time.Hour
	for range 5 {
		r := rig(t, 1, demo.Options{Delay: delay, Messages: n}, nil)
		h := &hog{loop: r.Pool.Loops()[0]}
		h.Firer = h
		r.On(0, func() { h.loop.Arm(&h.Timer, 0) })
		r.TCP("").All()
		best = min(best, r.AwaitEnds(1)[0].Duration)
		r.On(0, func() { h.loop.Stop(&h.Timer) })
		if best < (n-1)*delay+late {
			break
		}
	}
	if best < (n-1)*delay {
		t.Errorf("%d events took %v: early", n, best)
	}
	if best > (n-1)*delay+late {
		t.Errorf("%d events took %v, want about %v: lateness adds up", n, best, (n-1)*delay)
	}
}
