package demo

import (
	"time"
	"unicode"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/stream"
)

// promptMax is where a prompt is cut, in characters.
const promptMax = 100

// The texts before a prompt, and in place of one.
const (
	greeting = "Hello! You said: "
	noPrompt = "Hello! You sent no prompt."
)

// Message is the event of a load test, as it goes over the wire.
const Message = `data: {"content":"The quick brown fox jumps over the lazy"}` + "\n\n"

var message = []byte(Message)

// Options are the settings of the backend.
type Options struct {
	Delay    time.Duration // between events; 0: as fast as the client reads
	Messages int           // 0: greet and repeat the prompt
}

// Maker gives the backend's maker.
func Maker(o Options) stream.Maker {
	if o.Messages > 0 {
		return func(*loop.Loop) stream.Backend { return &messages{delay: o.Delay, left: o.Messages} }
	}
	return func(*loop.Loop) stream.Backend { return &words{delay: o.Delay} }
}

// behindMax is how far a stream may be behind its schedule and still catch up; past it, it goes on from now.
const behindMax = 100 * time.Millisecond

// run sends events from the one that was due at due on, as send does: what is due by now leaves in one write, and the
// next wake-up is on a fixed grid, so that lateness does not add up. send reports whether more is welcome and whether
// that was the last one. Without a delay it goes on for as long as more is welcome; Resume goes on from there.
func run(out *stream.Stream, due, delay time.Duration, send func() (more, last bool)) {
	due = max(due, out.Now()-behindMax)
	for {
		more, last := send()
		if last {
			out.End(nil)
			return
		}
		if !more {
			return
		}
		if due += delay; delay > 0 && due > out.Now() {
			out.WakeAt(due)
			return
		}
	}
}

// messages sends the same event again and again.
type messages struct {
	out   *stream.Stream
	delay time.Duration
	left  int
}

func (m *messages) Start(_ fdrecv.Payload, out *stream.Stream) error {
	m.out = out
	m.Wake(out.Now())
	return nil
}

func (m *messages) Wake(due time.Duration) {
	run(m.out, due, m.delay, func() (more, last bool) {
		more = m.out.Send(message)
		m.left--
		return more, m.left == 0
	})
}

// Pause stops the clock; without a delay, Wake has stopped by itself. Resume starts a new grid.
func (m *messages) Pause() {
	if m.delay > 0 {
		m.out.WakeAt(0)
	}
}
func (m *messages) Resume()    { m.Wake(m.out.Now()) }
func (m *messages) Drain()     {} // it ends by itself
func (m *messages) Stop(error) {}

// words sends a text a word at a time.
type words struct {
	out   *stream.Stream
	delay time.Duration
	rest  string // of the text
}

func (w *words) Start(p fdrecv.Payload, out *stream.Stream) error {
	w.out, w.rest = out, noPrompt
	if p.Prompt != "" {
		w.rest = greeting + cut(p.Prompt) // a copy: the payload is not kept
	}
	w.Wake(out.Now())
	return nil
}

func (w *words) Wake(due time.Duration) {
	run(w.out, due, w.delay, func() (more, last bool) {
		b := sse.AppendContent(w.out.Buffer(), w.next())
		w.out.KeepBuffer(b)
		return w.out.SendCopy(b), w.rest == ""
	})
}

// next takes the next word off the text, with the space in front of it.
func (w *words) next() string {
	n := wordLen(w.rest)
	word := w.rest[:n]
	w.rest = w.rest[n:]
	return word
}

func (w *words) Pause() {
	if w.delay > 0 {
		w.out.WakeAt(0)
	}
}
func (w *words) Resume()    { w.Wake(w.out.Now()) }
func (w *words) Drain()     {} // it ends by itself
func (w *words) Stop(error) {}

// wordLen is the length in bytes of the white space at the start of text and the word behind it.
func wordLen(text string) int {
	inWord := false
	for i, r := range text {
		space := unicode.IsSpace(r)
		if space && inWord {
			return i
		}
		inWord = inWord || !space
	}
	return len(text)
}

// cut shortens a prompt to promptMax characters.
func cut(prompt string) string {
	n := 0
	for i := range prompt {
		if n++; n > promptMax {
			return prompt[:i]
		}
	}
	return prompt
}
