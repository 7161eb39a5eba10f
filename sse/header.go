package sse

import (
	"errors"
	"fmt"
	"strings"
)

// Header is one HTTP header field, such as the web application asks to have
// added to the head.
type Header struct{ Name, Value string }

// What CheckHeader finds. The field is not sent; the stream can go on without.
var (
	// ErrReservedHeader: the name belongs to the head itself.
	ErrReservedHeader = errors.New("sse: header is reserved")
	// ErrHeaderName: the name is empty or not an HTTP token.
	ErrHeaderName = errors.New("sse: header name is not a token")
	// ErrHeaderValue: the value has a control character other than HTAB.
	ErrHeaderValue = errors.New("sse: header value has a control character")
)

// reservedNames are the fields that AppendHead and AppendRejection write
// themselves, and those that would change how a client finds the end of the
// response or the bytes in it. A second copy would break the stream at the
// client, or at a proxy on the way.
var reservedNames = [...]string{
	"Content-Type", "Cache-Control", "Connection", "Transfer-Encoding",
	"Content-Length", "Content-Encoding", "X-Accel-Buffering",
}

// tokenBytes holds the characters of a token beside letters and digits
// (RFC 9110 section 5.6.2).
const tokenBytes = "!#$%&'*+-.^_`|~"

// CheckHeader reports whether h may be passed to AppendHead and
// AppendRejection: nil, or an error that wraps ErrHeaderName, ErrHeaderValue or
// ErrReservedHeader and quotes the name (never the value, which may be a
// secret), cut to 40 characters and safe to log.
//
// The value may be empty and may hold HTAB and bytes from 0x80 up (obs-text,
// RFC 9110 section 5.5); white space at its ends is sent, and ignored by
// recipients. Reserved names are compared without regard to case.
func CheckHeader(h Header) error {
	if err := checkHeader(h); err != nil {
		return fmt.Errorf("%w: %.40q", err, h.Name)
	}
	return nil
}

// checkHeader is CheckHeader with the bare sentinel: it never allocates.
func checkHeader(h Header) error {
	if h.Name == "" {
		return ErrHeaderName
	}
	for i := range len(h.Name) {
		if !isTokenByte(h.Name[i]) {
			return ErrHeaderName
		}
	}
	for _, name := range reservedNames {
		if strings.EqualFold(h.Name, name) {
			return ErrReservedHeader
		}
	}
	for i := range len(h.Value) {
		if c := h.Value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return ErrHeaderValue
		}
	}
	return nil
}

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte(tokenBytes, c) >= 0
}

// appendHeaders adds the fields of extra that pass checkHeader, except those
// named but (empty: no exception). AppendHead documents why the others are
// left out in silence.
func appendHeaders(dst []byte, extra []Header, but string) []byte {
	for _, h := range extra {
		if checkHeader(h) != nil || strings.EqualFold(h.Name, but) {
			continue
		}
		dst = append(dst, h.Name...)
		dst = append(dst, ": "...)
		dst = append(dst, h.Value...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}
