package mock

import (
	"bytes"
	"iter"
	"strings"
	"time"
)

// block is a part of a body that goes out together, after a pause.
type block struct {
	pause time.Duration
	bytes []byte // valid until the next one
	text  bool   // it has a piece of text
}

// chat is what a reply is made for.
type chat struct {
	id      string
	created int64 // Unix seconds
	model   string
	prompt  string // the text of the last user message
	usage   bool   // stream_options.include_usage
}

// blocks gives the body of a reply. It is the same each time.
func (s *Script) blocks(c *chat) iter.Seq[block] {
	return func(yield func(block) bool) {
		w := writer{s: s, c: c, yield: yield, more: true}
		w.all()
	}
}

// length is how many bytes the blocks have together.
func (s *Script) length(c *chat) (n int) {
	for b := range s.blocks(c) {
		n += len(b.bytes)
	}
	return n
}

// writer makes the blocks of one reply, in one buffer.
type writer struct {
	s     *Script
	c     *chat
	yield func(block) bool
	more  bool // yield has not said stop
	data  []byte
	out   []byte
	begun bool // a byte has gone out
}

// all is the order of a stream: the role, the text, what else there is, the finish_reason, the usage, [DONE].
func (w *writer) all() {
	w.delta(0, false, `{"role":"assistant","content":"","refusal":null}`, "null")
	at, count := w.s.pieces(w.c.prompt)
	pause := time.Duration(w.s.First)
	var delta []byte
	for i := 0; i != count && w.more; i++ {
		delta = append(delta[:0], `{"content":`...)
		delta = append(appendQuoted(delta, at(i), w.s.Escape), '}')
		w.delta(pause, true, string(delta), "null")
		pause = time.Duration(w.s.Delay)
		if i+1 == w.s.FailAfter {
			w.event(0, false, []byte(`{"error":{"message":"The server had an error while processing your request. Sorry about that!","type":"server_error","param":null,"code":null}}`))
			return
		}
	}
	if w.s.Refusal != "" {
		w.delta(0, false, `{"refusal":`+string(appendQuoted(nil, w.s.Refusal, w.s.Escape))+`}`, "null")
	}
	if w.s.Tools {
		for _, part := range []string{
			`{"index":0,"id":"call_1","type":"function","function":{"name":"weather","arguments":""}}`,
			`{"index":0,"function":{"arguments":"{\"city\":"}}`,
			`{"index":0,"function":{"arguments":"\"Z\u00fcrich\"}"}}`,
		} {
			w.delta(0, false, `{"tool_calls":[`+part+`]}`, "null")
		}
	}
	if w.s.Finish != "none" {
		w.delta(0, false, `{}`, string(appendQuoted(nil, w.s.Finish, "utf8")))
	}
	if w.c.usage {
		w.usage(count)
	}
	if !w.s.NoDone {
		w.event(0, false, []byte("[DONE]"))
	}
}

// chunk begins a chunk.
func (w *writer) chunk() {
	w.data = append(w.data[:0], `{"id":"`...)
	w.data = append(w.data, w.c.id...)
	w.data = append(w.data, `","object":"chat.completion.chunk","created":`...)
	w.data = appendInt(w.data, w.c.created)
	w.data = append(w.data, `,"model":`...)
	w.data = appendQuoted(w.data, w.c.model, "utf8")
	w.data = append(w.data, `,"system_fingerprint":"fp_mock",`...)
	if w.s.Pad > 0 {
		w.data = append(w.data, `"obfuscation":"`...)
		w.data = append(w.data, strings.Repeat("x", w.s.Pad)...)
		w.data = append(w.data, `",`...)
	}
}

func (w *writer) delta(pause time.Duration, text bool, delta, finish string) {
	w.chunk()
	w.data = append(w.data, `"choices":[{"index":0,"delta":`...)
	w.data = append(w.data, delta...)
	w.data = append(w.data, `,"logprobs":null,"finish_reason":`...)
	w.data = append(w.data, finish...)
	w.data = append(w.data, `}]`...)
	if w.c.usage {
		w.data = append(w.data, `,"usage":null`...)
	}
	w.data = append(w.data, '}')
	w.event(pause, text, w.data)
}

// usage is the chunk without a choice. A token is a word of the prompt, or a piece of text.
func (w *writer) usage(pieces int) {
	asked := int64(len(strings.Fields(w.c.prompt)))
	w.chunk()
	w.data = append(w.data, `"choices":[],"usage":{"prompt_tokens":`...)
	w.data = appendInt(w.data, asked)
	w.data = append(w.data, `,"completion_tokens":`...)
	w.data = appendInt(w.data, int64(pieces))
	w.data = append(w.data, `,"total_tokens":`...)
	w.data = appendInt(w.data, asked+int64(pieces))
	w.data = append(w.data, `}}`...)
	w.event(0, false, w.data)
}

// event dresses data and gives it out.
func (w *writer) event(pause time.Duration, text bool, data []byte) {
	if !w.more {
		return
	}
	b := w.out[:0]
	if !w.begun && w.s.wears("bom") {
		b = append(b, "\uFEFF"...)
	}
	w.begun = true
	if w.s.wears("comments") {
		b = append(b, ": processing\n:\n\nevent: nothing\n\n"...)
	}
	if w.s.wears("fields") {
		b = append(b, "event: completion.chunk\nid: 7\nretry: 3000\nunknown: x\nignored\n"...)
	}
	first, second := data, []byte(nil)
	if json := data[0] == '{'; json && w.s.wears("split") {
		first, second, _ = bytes.Cut(data, []byte(","))
		first = data[:len(first)+1]
	} else if json && w.s.wears("spaces") {
		first = append(append([]byte("{ \t"), data[1:len(data)-1]...), " \t}"...)
	}
	b = w.line(b, first)
	if second != nil {
		b = w.line(b, second)
	}
	b = append(b, '\n')
	switch w.s.LineEnd {
	case "crlf":
		b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
	case "cr":
		b = bytes.ReplaceAll(b, []byte("\n"), []byte("\r"))
	}
	w.out = b
	w.more = w.yield(block{pause, b, text})
}

func (w *writer) line(b, data []byte) []byte {
	b = append(b, "data:"...)
	if !w.s.wears("tight") {
		b = append(b, ' ')
	}
	b = append(b, data...)
	return append(b, '\n')
}
