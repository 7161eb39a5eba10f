package sse

import (
	"bytes"
	"errors"
)

// What ParseHead refuses. Nothing more can be read from such a connection.
var (
	// ErrHeadTooLarge: no end of the head within its first 64 KiB.
	ErrHeadTooLarge = errors.New("sse: response head too large")
	// ErrHeadMalformed: the bytes do not begin with an HTTP/1 status line.
	ErrHeadMalformed = errors.New("sse: malformed status line")
)

const (
	headBytesMax   = 64 << 10       // bytes; a head of ours has some hundred
	statusLineForm = "HTTP/1.d ddd" // d: a digit; RFC 9112 section 4
)

// ParseHead looks for a response head at the start of b, for clients that read
// our own responses or those of a web server in front. headLen is 0 while b does
// not hold the whole head: call again with more bytes after it. Otherwise headLen
// is the length of the head with its empty line, and b[headLen:] is the start of
// the body. status is the three digits as a number, 0 while headLen is 0.
//
// A head that cannot become one is refused as early as its bytes tell:
// ErrHeadMalformed, ErrHeadTooLarge. Lines must end in CRLF. The fields are not
// looked at, and an interim response (1xx) is a head like any other. It starts
// over at each call; with at most 64 KiB and heads that come in one piece that
// is cheaper than state.
func ParseHead(b []byte) (status, headLen int, err error) {
	if !beginsStatusLine(b) {
		return 0, 0, ErrHeadMalformed
	}
	end := bytes.Index(b[:min(len(b), headBytesMax)], []byte("\r\n\r\n"))
	if end < 0 {
		if len(b) >= headBytesMax {
			return 0, 0, ErrHeadTooLarge
		}
		return 0, 0, nil
	}
	for _, c := range b[len(statusLineForm)-len("ddd") : len(statusLineForm)] {
		status = status*10 + int(c-'0')
	}
	return status, end + len("\r\n\r\n"), nil
}

// beginsStatusLine reports whether b is a status line or may become one when
// more bytes come: the version and status in full form, then a space or the
// line's end.
func beginsStatusLine(b []byte) bool {
	for i, c := range b[:min(len(b), len(statusLineForm))] {
		if want := statusLineForm[i]; want == 'd' {
			if c < '0' || c > '9' {
				return false
			}
		} else if c != want {
			return false
		}
	}
	if len(b) <= len(statusLineForm) {
		return true
	}
	next := b[len(statusLineForm)]
	return next == ' ' || next == '\r'
}
