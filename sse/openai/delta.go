package openai

import (
	"bytes"
	"errors"
)

// errDelta: an event of the upstream is not a chat completion chunk.
var errDelta = errors.New("openai: not a chat completion chunk")

// delta is what one chunk of a chat completion says about its first choice. The slices are JSON values as they stand in
// the chunk, and live as long as its bytes; nil where there is none, or a null.
//
// A content is a JSON string that goes out inside another JSON object, so its bytes are copied as they are: every
// escape stays what it was, half of a surrogate pair included, which only the client can join with the other half.
type delta struct {
	content   []byte // a string; "" too
	refusal   []byte // a string
	toolCalls []byte // an array
	finish    []byte // a string: finish_reason
	failed    []byte // any value: the upstream reports an error in place of a chunk
}

// parseDelta reads one chunk in one pass. Of a name that is there twice the last counts, as in encoding/json; names are
// matched exactly. Members that it does not know are checked and skipped, whatever they are.
func parseDelta(chunk []byte) (delta, error) {
	var d delta
	s := scanner{b: chunk}
	var key []byte
	for s.open('{'); s.member(&key); {
		switch string(key) {
		case "choices":
			d.clearChoice()
			s.choices(&d)
		case "error":
			d.failed = notNull(s.value())
		default:
			s.value()
		}
	}
	if !s.end() {
		return delta{}, errDelta
	}
	return d, nil
}

func (d *delta) clearChoice() { *d = delta{failed: d.failed} }

// choices reads the first element; the array may be empty (usage, content filters) or null.
func (s *scanner) choices(d *delta) {
	if s.peek() != '[' {
		s.only(s.value(), 'n')
		return
	}
	first := true
	for s.open('['); s.element(); first = false {
		if first {
			s.choice(d)
		} else {
			s.value()
		}
	}
}

// choice reads one choice. One whose index is not 0 belongs to another completion of the same request: it says nothing.
func (s *scanner) choice(d *delta) {
	other := false
	var key []byte
	for s.open('{'); s.member(&key); {
		switch string(key) {
		case "index":
			index := s.value()
			other = len(index) > 0 && string(index) != "0" && string(index) != "null"
		case "finish_reason":
			d.finish = s.only(s.value(), '"')
		case "delta":
			d.content, d.refusal, d.toolCalls = nil, nil, nil
			s.delta(d)
		default:
			s.value()
		}
	}
	if other {
		d.clearChoice()
	}
}

func (s *scanner) delta(d *delta) {
	if s.peek() != '{' {
		s.only(s.value(), 'n')
		return
	}
	var key []byte
	for s.open('{'); s.member(&key); {
		switch string(key) {
		case "content":
			d.content = s.only(s.value(), '"')
		case "refusal":
			d.refusal = s.only(s.value(), '"')
		case "tool_calls":
			d.toolCalls = s.only(s.value(), '[')
		default:
			s.value()
		}
	}
}

// only gives v when it starts as its type must, nil for null, and otherwise makes the text bad: to leave out what was
// generated, without a word, would be worse than to end the stream.
func (s *scanner) only(v []byte, start byte) []byte {
	v = notNull(v)
	if v != nil && v[0] != start {
		s.bad = true
		return nil
	}
	return v
}

func notNull(v []byte) []byte {
	if string(v) == "null" {
		return nil
	}
	return v
}

// isEmptyString reports whether v is the JSON string "".
func isEmptyString(v []byte) bool { return len(v) == 2 }

// doneData is the data of the event after the last chunk.
var doneData = []byte("[DONE]")

// isDone reports whether data is that of the last event; some servers pad it.
func isDone(data []byte) bool { return bytes.Equal(bytes.TrimSpace(data), doneData) }
