package fdrecv

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
	"unsafe"
)

// Payload is the JSON object beside a descriptor, read. The zero Payload means that none was sent. Its strings and
// what Field gives share the memory of the bytes received: who keeps one longer than the Payload clones it, or keeps
// up to 208 KiB with it. Read-only after ParsePayload, so any goroutine may read it.
type Payload struct {
	Prompt    string
	UserID    string // a number keeps its literal text: PHP sends both 7 and "7"
	Model     string
	RequestID string
	// ResponseHeaders are for the response head, in the order of the wire. Names and values are not checked.
	ResponseHeaders []HeaderField

	raw []byte // a valid JSON object or nil; never written
}

// HeaderField is one response header.
type HeaderField struct{ Name, Value string }

// Raw is the whole object as it was received, nil when there was none. It must not be changed.
func (p *Payload) Raw() json.RawMessage { return p.raw }

// Field gives the value of any field by its exact name, nil when there is none; of several with that name the last.
// It reads the payload from the start each time. The result must not be changed.
func (p *Payload) Field(name string) json.RawMessage {
	var found json.RawMessage
	if p.raw != nil {
		eachMember(p.raw, func(key string, value []byte) {
			if key == name {
				found = value[:len(value):len(value)]
			}
		})
	}
	return found
}

// ParsePayload reads a payload and keeps b, which must not be changed afterwards. b must be a JSON object; a nil or
// empty b or a lone NUL byte, which is what a sender without data sends, give the zero Payload.
//
// The error wraps ErrMalformed. When b is an object and only a field has the wrong type, the Payload carries all
// others. A field that is null counts as absent (PHP writes one for each unset variable), and of a field that is
// there twice the last one counts, as in encoding/json. Invalid UTF-8 is read as U+FFFD. Nesting is limited to
// encoding/json's 10,000. 200 bytes take 0.8 µs, 200 KB 0.7 ms (BenchmarkParsePayload).
func ParsePayload(b []byte) (Payload, error) {
	if isNoPayload(b) {
		return Payload{}, nil
	}
	if err := checkObject(b); err != nil {
		return Payload{}, fmt.Errorf("fdrecv: %w: %w", ErrMalformed, err)
	}
	p := Payload{raw: b}
	var mistyped error
	eachMember(b, func(key string, value []byte) {
		if err := p.set(key, value); err != nil && mistyped == nil {
			mistyped = fmt.Errorf("fdrecv: %w: %s: %w", ErrMalformed, key, err)
		}
	})
	return p, mistyped
}

var (
	errNotObject        = errors.New("not a JSON object")
	errNotString        = errors.New("not a string")
	errNotStringNumber  = errors.New("neither a string nor a number")
	errNotHeaders       = errors.New("not an object")
	errHeaderValueTypes = errors.New("has a value that is not a string")
)

// checkObject makes sure that b is one valid JSON object and nothing else.
func checkObject(b []byte) error {
	if json.Valid(b) {
		if b[skipSpace(b, 0)] != '{' {
			return errNotObject
		}
		return nil
	}
	var v json.RawMessage
	if err := json.Unmarshal(b, &v); err != nil { // for its text: Valid gives none
		return err
	}
	return errNotObject
}

// set takes over one member of the object. value is valid JSON.
func (p *Payload) set(key string, value []byte) error {
	var field *string
	switch key {
	case "prompt":
		field = &p.Prompt
	case "model":
		field = &p.Model
	case "request_id":
		field = &p.RequestID
	case "user_id":
		field = &p.UserID
		if c := value[0]; c == '-' || '0' <= c && c <= '9' {
			p.UserID = alias(value)
			return nil
		} else if c != '"' && c != 'n' {
			return errNotStringNumber
		}
	case "response_headers":
		return p.setHeaders(value)
	default:
		return nil // for the backend that asks for it with Field
	}
	switch value[0] {
	case '"':
		*field = unquote(value)
	case 'n': // null
		*field = ""
	default:
		return errNotString
	}
	return nil
}

// setHeaders reads response_headers. PHP writes an empty array where other languages write an empty object, so that
// one array is none too.
func (p *Payload) setHeaders(value []byte) error {
	p.ResponseHeaders = nil
	switch {
	case value[0] == 'n', value[0] == '[' && value[skipSpace(value, 1)] == ']':
		return nil
	case value[0] != '{':
		return errNotHeaders
	}
	var headers []HeaderField
	var err error
	eachMember(value, func(name string, v []byte) {
		if v[0] != '"' {
			err = fmt.Errorf("%q %w", name, errHeaderValueTypes)
			return
		}
		headers = append(headers, HeaderField{Name: name, Value: unquote(v)})
	})
	if err != nil {
		return err
	}
	p.ResponseHeaders = headers
	return nil
}

// eachMember calls f for each member of an object, in order. object must be valid JSON (json.Valid has seen it), which
// is what makes this walk so simple: a string ends at the next quote that is not escaped, anything else where its
// brackets are closed. encoding/json alone would not do: it loses the order, or costs five times as much.
func eachMember(object []byte, f func(key string, value []byte)) {
	i := skipSpace(object, 0) + 1 // past the brace
	for {
		i = skipSpace(object, i)
		switch object[i] {
		case '}':
			return
		case ',':
			i = skipSpace(object, i+1)
		}
		keyEnd := valueEnd(object, i)
		key := unquote(object[i:keyEnd])
		start := skipSpace(object, skipSpace(object, keyEnd)+1) // past the colon
		i = valueEnd(object, start)
		f(key, object[start:i])
	}
}

// valueEnd is the index after the JSON value that starts at b[i].
func valueEnd(b []byte, i int) int {
	depth := 0
	for ; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		default:
			if depth == 0 { // a number or a literal: it ends before a delimiter
				for i++; i < len(b) && !delimits(b[i]); i++ {
				}
				return i
			}
		}
	}
}

func delimits(c byte) bool {
	return c == ',' || c == '}' || c == ']' || isSpace(c)
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// skipSpace is the index of the first byte from i on that is no JSON white space.
func skipSpace(b []byte, i int) int {
	for i < len(b) && isSpace(b[i]) {
		i++
	}
	return i
}

// unquote reads a valid JSON string, quotes included. One without escapes is not copied.
func unquote(quoted []byte) string {
	plain := quoted[1 : len(quoted)-1]
	escaped := false
	for _, c := range plain {
		if c == '\\' {
			escaped = true
			break
		}
	}
	if !escaped && utf8.Valid(plain) {
		return alias(plain)
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic("fdrecv: " + err.Error()) // json.Valid let it pass
	}
	return s
}

// alias makes a string of b without a copy: b is never written again.
func alias(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
