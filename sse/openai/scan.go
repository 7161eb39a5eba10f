package openai

import (
	"bytes"
	"encoding/json"
)

// depthMax bounds the nesting that a scanner follows: recursion runs on the stack of a loop's goroutine, which all
// streams of the loop share. Real chunks and payloads nest to about 8.
const depthMax = 256

// scanner walks one JSON text from left to right (RFC 8259), checks its grammar as strictly as encoding/json, and
// builds nothing: a value is a slice of the input. After the first fault bad is set and every method does nothing, so
// that callers look once, at the end.
//
// A walk over an object:
//
//	for s.open('{'); s.member(&key); {
//		switch string(key) { case "a": v = s.value(); default: s.value() }
//	}
type scanner struct {
	b     []byte
	i     int // the next byte
	depth int
	fresh bool // true exactly between an opening bracket and what follows it
	bad   bool
}

// open takes the opening bracket of an object or an array.
func (s *scanner) open(bracket byte) {
	if s.peek() != bracket || s.depth == depthMax {
		s.bad = true
	}
	if s.bad {
		return
	}
	s.i++
	s.depth++
	s.fresh = true
}

// member takes the next key of the open object and its colon; the member's value must be taken next. false: the object
// is closed now, or the text is bad. key is the text between the quotes, read when it has escapes.
func (s *scanner) member(key *[]byte) bool {
	if !s.next('}') {
		return false
	}
	quoted := s.str()
	if s.peek() != ':' {
		s.bad = true
	}
	if s.bad {
		return false
	}
	s.i++
	*key = quoted[1 : len(quoted)-1]
	if bytes.IndexByte(*key, '\\') >= 0 {
		var text string
		_ = json.Unmarshal(quoted, &text) // str has checked it
		*key = []byte(text)
	}
	return true
}

// element reports whether the open array goes on; the element must be taken next. false: it is closed now, or bad.
func (s *scanner) element() bool { return s.next(']') }

// next takes what stands between the members of what is open: a comma, nothing at the start, or the closing bracket.
func (s *scanner) next(closing byte) bool {
	fresh := s.fresh
	s.fresh = false
	switch c := s.peek(); {
	case s.bad:
		return false
	case c == closing:
		s.i++
		s.depth--
		return false
	case fresh:
		return true
	case c == ',':
		s.i++
		return true
	}
	s.bad = true
	return false
}

// value takes the next value whole: its bytes, without the white space around it; nil when the text is bad.
func (s *scanner) value() []byte {
	c := s.peek()
	start := s.i
	switch c {
	case '{':
		var key []byte
		for s.open('{'); s.member(&key); {
			s.value()
		}
	case '[':
		for s.open('['); s.element(); {
			s.value()
		}
	case '"':
		s.str()
	case 't':
		s.literal("true")
	case 'f':
		s.literal("false")
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
	if s.bad {
		return nil
	}
	return s.b[start:s.i:s.i]
}

// end makes sure that nothing but white space is left, and reports whether the whole text was good.
func (s *scanner) end() bool {
	s.space()
	return !s.bad && s.i == len(s.b)
}

func (s *scanner) space() {
	for s.i < len(s.b) && s.b[s.i] <= ' ' && isSpace(s.b[s.i]) {
		s.i++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\n' || c == '\r' || c == '\t' }

// peek is the next byte that is not white space; 0 at the end, and when the text is bad.
func (s *scanner) peek() byte {
	s.space()
	if s.bad || s.i >= len(s.b) {
		return 0
	}
	return s.b[s.i]
}

// str takes a string, quotes included. Bytes that are no UTF-8 pass, as in encoding/json; control characters do not.
func (s *scanner) str() []byte {
	if s.peek() != '"' {
		s.bad = true
		return nil
	}
	start, b := s.i, s.b
	for i := start + 1; i < len(b); i++ { // most bytes of most texts pass through here: nothing but b and i is touched
		c := b[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		s.i = i
		switch c {
		case '"':
			s.i++
			return b[start:s.i:s.i]
		case '\\':
			if s.escape(); s.bad {
				return nil
			}
			i = s.i
		default:
			s.bad = true
			return nil
		}
	}
	s.bad = true
	return nil
}

// escape takes an escape sequence up to, but without, its last byte.
func (s *scanner) escape() {
	s.i++
	if s.i >= len(s.b) {
		s.bad = true
		return
	}
	switch s.b[s.i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
	case 'u':
		for range 4 {
			if s.i++; s.i >= len(s.b) || !isHex(s.b[s.i]) {
				s.bad = true
				return
			}
		}
	default:
		s.bad = true
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func (s *scanner) literal(text string) {
	if !bytes.HasPrefix(s.b[s.i:], []byte(text)) {
		s.bad = true
		return
	}
	s.i += len(text)
}

// number takes [-] int [frac] [exp].
func (s *scanner) number() {
	if s.at('-') {
		s.i++
	}
	if s.at('0') {
		s.i++
	} else {
		s.digits()
	}
	if s.at('.') {
		s.i++
		s.digits()
	}
	if s.at('e') || s.at('E') {
		s.i++
		if s.at('+') || s.at('-') {
			s.i++
		}
		s.digits()
	}
}

func (s *scanner) at(c byte) bool { return s.i < len(s.b) && s.b[s.i] == c }

// digits takes one digit or more.
func (s *scanner) digits() {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	if s.i == start {
		s.bad = true
	}
}
