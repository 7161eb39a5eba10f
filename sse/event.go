package sse

import (
	"bytes"
	"strconv"
	"strings"
	"time"
)

// Blocks that never change. Convert one to bytes once and share it.
const (
	Done      = "data: [DONE]\n\n" // the end of a stream that ended by itself
	Heartbeat = ": heartbeat\n\n"  // for an idle stream; a comment, so clients dispatch nothing
)

// Event is one event, for AppendEvent and from a Parser.
//
// From a Parser the slices are valid until the callback returns and must not be
// written to: they point into the bytes that were fed, or into the parser.
type Event struct {
	// ID is the last event ID. From a Parser it is the one in force at this
	// event, which an earlier block may have set. AppendEvent looks at it only
	// when HasID is set.
	ID []byte
	// Name is the event's type; empty means the default, "message".
	Name []byte
	// Data is the text. From a Parser its lines are joined with LF, and it has
	// no LF at the end beyond those of the sender.
	Data []byte
	// HasID is true exactly when the block itself has an id field. With an empty
	// ID such a field clears the client's last event ID.
	HasID bool
	// Retry is the client's new reconnection time; 0: unchanged. Whole
	// milliseconds on the wire. A "retry: 0" cannot be told from none.
	Retry time.Duration
}

// AppendEvent adds ev as one block: id, event, retry, then a data line for each
// line of ev.Data, then the blank line. CR, LF and CRLF in Data all end a line,
// so a client sees each as LF. Data may be empty: an empty data line is sent,
// without which a client would dispatch nothing.
//
// An ID or a Name that holds NUL, CR or LF has no form on the wire, and its
// line is left out: a shortened ID would make the client resume from a place
// that is not ours, while without one it keeps the ID before it; a shortened
// Name could be another event's. The event then has the default name. A Retry
// that is not positive is left out; a part of a millisecond counts as a whole.
//
// It allocates nothing while dst has room.
func AppendEvent(dst []byte, ev Event) []byte {
	if ev.HasID && isFieldValue(ev.ID) {
		dst = append(dst, "id: "...)
		dst = append(dst, ev.ID...)
		dst = append(dst, '\n')
	}
	if len(ev.Name) > 0 && isFieldValue(ev.Name) {
		dst = append(dst, "event: "...)
		dst = append(dst, ev.Name...)
		dst = append(dst, '\n')
	}
	dst = appendRetry(dst, ev.Retry)
	s := lineScanner{b: ev.Data, lf: -1, cr: -1}
	for {
		line, ended := s.next()
		// The space is always written: a client takes off one, so a line's own
		// leading space survives.
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
		if !ended {
			return append(dst, '\n')
		}
	}
}

// AppendComment adds text as a block that clients read and ignore, a comment
// line for each of its lines; they may end in CR, LF or CRLF. It allocates
// nothing while dst has room.
func AppendComment(dst []byte, text string) []byte {
	for {
		end := strings.IndexAny(text, "\r\n")
		line := text
		if end >= 0 {
			line = text[:end]
		}
		dst = append(dst, ": "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
		if end < 0 {
			return append(dst, '\n')
		}
		if strings.HasPrefix(text[end:], "\r\n") {
			end++
		}
		text = text[end+1:]
	}
}

// AppendContent adds the event that carries a piece of generated text:
//
//	data: {"content":"…"}
//
// text is escaped as in AppendJSONString. It allocates nothing while dst has
// room.
func AppendContent(dst []byte, text string) []byte {
	dst = append(dst, `data: {"content":`...)
	dst = AppendJSONString(dst, text)
	return append(dst, "}\n\n"...)
}

// AppendError adds the event that ends a stream which went wrong after its
// head. No Done follows it.
//
//	event: error
//	retry: 1500
//	data: {"error":{"message":"…"}}
//
// message is escaped as in AppendJSONString; retry is written as in AppendEvent.
// It allocates nothing while dst has room.
func AppendError(dst []byte, message string, retry time.Duration) []byte {
	dst = append(dst, "event: error\n"...)
	dst = appendRetry(dst, retry)
	dst = append(dst, `data: {"error":{"message":`...)
	dst = AppendJSONString(dst, message)
	return append(dst, "}}\n\n"...)
}

// appendRetry adds the retry line when d is positive. It rounds up: a short
// time must not become 0, on which clients would come back at once.
func appendRetry(dst []byte, d time.Duration) []byte {
	if d <= 0 {
		return dst
	}
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond > 0 {
		ms++
	}
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

// isFieldValue reports whether v can stand in an id or event line. NUL is legal
// in an event name but not in an id (HTML standard 9.2.6); one rule serves both.
func isFieldValue(v []byte) bool {
	return bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0 && bytes.IndexByte(v, 0) < 0
}
