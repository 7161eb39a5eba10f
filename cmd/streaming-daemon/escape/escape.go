// Package escape keeps what clients and payloads say from being more than text in a log: no line of its own, no end of a
// quoted field, nothing that a terminal would obey. Pure functions on bytes.
package escape

import (
	"io"
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendJSON adds s as a JSON string with its quotes, in which every character can be printed: controls, among them the
// C1 range and DEL, which JSON itself would let pass (RFC 8259 section 7), marks that turn the direction of text around
// and the like are written \uXXXX. A byte that is not part of valid UTF-8 becomes U+FFFD.
func AppendJSON(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s { // an invalid byte comes as U+FFFD
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = appendRune(dst, r)
		}
	}
	return append(dst, '"')
}

// appendRune adds r, in the form \uXXXX unless it can be printed.
func appendRune(dst []byte, r rune) []byte {
	switch {
	case unicode.IsPrint(r):
		return utf8.AppendRune(dst, r)
	case r > 0xffff: // a surrogate pair
		r -= 0x10000
		return appendUnit(appendUnit(dst, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return appendUnit(dst, r)
}

func appendUnit(dst []byte, u rune) []byte {
	return append(dst, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&0xf], hexDigits[u>>4&0xf], hexDigits[u&0xf])
}

// AppendApache adds s as Apache's ap_escape_logitem writes it: a quote and a backslash with a backslash in front, \b, \n,
// \r, \t and \v, and every other byte that is no printable ASCII as \xhh. more is one further byte to be written so.
func AppendApache(dst []byte, s string, more byte) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\v':
			dst = append(dst, '\\', 'v')
		case c < ' ' || c > '~' || c == more:
			dst = append(dst, '\\', 'x', hexDigits[c>>4], hexDigits[c&0xf])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// JSONWriter writes lines of JSON that somebody else has encoded, each with one Write, so that every character in them
// can be printed. What has to be escaped stands in strings only: the rest of JSON is ASCII.
type JSONWriter struct{ To io.Writer }

// Write reports line as written whole when all that became of it was.
func (w JSONWriter) Write(line []byte) (int, error) {
	if plain(line) {
		return w.To.Write(line)
	}
	out := make([]byte, 0, len(line)+64)
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		if r == '\n' {
			out = append(out, '\n')
		} else {
			out = appendRune(out, r)
		}
		i += n
	}
	if _, err := w.To.Write(out); err != nil {
		return 0, err
	}
	return len(line), nil
}

// plain reports whether all of line is ASCII that stands for itself.
func plain(line []byte) bool {
	for _, c := range line {
		if c >= 0x7f {
			return false
		}
	}
	return true
}
