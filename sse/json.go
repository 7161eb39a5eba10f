package sse

import "unicode/utf8"

const hexDigits = "0123456789abcdef"

// jsonPlain is true for the ASCII bytes that stand for themselves in a JSON
// string (RFC 8259 section 7). DEL is one of them.
var jsonPlain = func() (t [utf8.RuneSelf]bool) {
	for c := byte(' '); c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// AppendJSONString adds s as a JSON string with its quotes. Any s is fine: a
// byte that is not part of valid UTF-8 becomes U+FFFD, one for each such byte,
// as in encoding/json. The result holds no CR and no LF, so it stays on one data
// line. U+2028 and U+2029 are escaped, since JavaScript before ES2019 took them
// for line ends in string literals; <, > and & are not: this is no HTML.
//
// It allocates nothing while dst has room.
func AppendJSONString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	copied := 0 // s[:copied] is in dst
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if !jsonPlain[c] {
				dst = append(dst, s[copied:i]...)
				dst = appendEscape(dst, c)
				copied = i + 1
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		invalid := r == utf8.RuneError // or U+FFFD itself, which comes out the same
		if invalid || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[copied:i]...)
			switch {
			case invalid:
				dst = append(dst, "\uFFFD"...)
			case r == '\u2028':
				dst = append(dst, `\u2028`...)
			default:
				dst = append(dst, `\u2029`...)
			}
			copied = i + size
		}
		i += size
	}
	dst = append(dst, s[copied:]...)
	return append(dst, '"')
}

// appendEscape adds c, a control character, quote or backslash, in its shortest
// escaped form.
func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}
