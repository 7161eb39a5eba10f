package h1

import (
	"bytes"
	"fmt"
	"math"

	"streaming-daemon-go/sse/openai/upstream"
)

// headBytesMax bounds a response head. Real ones have up to 2 KB; a cookie-laden gateway some more.
const headBytesMax = 64 << 10

// head is a response head, as far as a call needs it.
type head struct {
	upstream.Head
	length    int64 // of the body; -1: not given
	chunked   bool
	keepAlive bool // the connection may serve another call when the body is complete

	// of parseHead
	minor   byte // of HTTP/1.x
	te      bool // Transfer-Encoding was seen
	encoded bool // the body has a content coding, which we do not read
	closes  bool // Connection: close was seen
}

// headEnd is the length of the head at the start of b, its empty line included; 0: b does not hold all of it. from is
// how much of b an earlier call has looked at. A line may end in LF alone (RFC 9112, section 2.2).
func headEnd(b []byte, from int) int {
	for i := max(0, from-2); ; { // the empty line may have begun there
		n := bytes.IndexByte(b[i:], '\n')
		if n < 0 {
			return 0
		}
		i += n + 1
		switch rest := b[i:]; {
		case len(rest) > 0 && rest[0] == '\n':
			return i + 1
		case len(rest) > 1 && rest[0] == '\r' && rest[1] == '\n':
			return i + 2
		}
	}
}

// parseHead reads a whole head, empty line included. Its slices point into b. Errors wrap upstream.ErrProtocol.
//
// What decides where the body ends is read by the letter (RFC 9112, section 6): a second opinion on the length would be
// a way to smuggle. So a folded line, a space before a colon, lengths that differ and codings other than chunked are
// refused, while fields that we do not look at may hold nearly anything.
func parseHead(b []byte) (head, error) {
	h := head{length: -1}
	line, b := cutLine(b)
	if err := h.status(line); err != nil {
		return head{}, err
	}
	h.keepAlive = h.minor > 0
	for {
		line, b = cutLine(b)
		if len(line) == 0 {
			break
		}
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !isToken(line[:colon]) {
			return head{}, protocolError("field line")
		}
		if err := h.field(line[:colon], bytes.Trim(line[colon+1:], " \t")); err != nil {
			return head{}, err
		}
	}
	return h, h.settle()
}

// beginsHead reports whether b is a head or may become one.
func beginsHead(b []byte) bool {
	const form = "HTTP/1."
	n := min(len(b), len(form))
	return string(b[:n]) == form[:n]
}

// settle draws the conclusions from all fields.
func (h *head) settle() error {
	switch {
	case h.te && (h.minor == 0 || !h.chunked): // RFC 9112, 6.1: no HTTP/1.0 program can mean it
		return protocolError("transfer coding")
	case h.te && h.length >= 0: // 6.3: chunked wins, and the connection ends with it
		h.length, h.keepAlive = -1, false
	}
	if h.Status == 204 || h.Status == 304 {
		h.length, h.chunked = 0, false
	}
	if h.encoded && h.length != 0 && h.Status >= 200 {
		return protocolError("content coding")
	}
	if h.length < 0 && !h.chunked {
		h.keepAlive = false
	}
	return nil
}

// status reads "HTTP/1.x ddd", with a phrase or without.
func (h *head) status(line []byte) error {
	const form = "HTTP/1.d ddd"
	if len(line) < len(form) || string(line[:7]) != form[:7] || line[8] != ' ' || len(line) > len(form) && line[len(form)] != ' ' {
		return protocolError("status line")
	}
	if line[7] < '0' || line[7] > '9' {
		return protocolError("status line")
	}
	h.minor = line[7] - '0'
	for _, c := range line[9:12] {
		if c < '0' || c > '9' {
			return protocolError("status line")
		}
		h.Status = h.Status*10 + int(c-'0')
	}
	if h.Status < 100 || h.Status > 599 || h.Status == 101 { // 101: we have asked for no other protocol
		return protocolError("status")
	}
	return nil
}

func (h *head) field(name, value []byte) error {
	if bytes.IndexByte(value, '\r') >= 0 || bytes.IndexByte(value, 0) >= 0 { // RFC 9110, 5.5
		return protocolError("field value")
	}
	switch {
	case fold(name, "content-type"):
		if h.ContentType == nil {
			h.ContentType = value
		}
	case fold(name, "retry-after"):
		if h.RetryAfter == nil {
			h.RetryAfter = value
		}
	case fold(name, "content-length"):
		n, ok := parseLength(value)
		if !ok || h.length >= 0 && h.length != n {
			return protocolError("content length")
		}
		h.length = n
	case fold(name, "transfer-encoding"):
		if h.te || !fold(value, "chunked") {
			return protocolError("transfer coding")
		}
		h.te, h.chunked = true, true
	case fold(name, "content-encoding"):
		h.encoded = h.encoded || len(value) > 0 && !fold(value, "identity")
	case fold(name, "connection"):
		h.connection(value)
	}
	return nil
}

// connection reads the options that end or keep a connection (RFC 9112, section 9.3).
func (h *head) connection(value []byte) {
	for option := range bytes.SplitSeq(value, []byte(",")) {
		option = bytes.Trim(option, " \t")
		if fold(option, "close") {
			h.closes, h.keepAlive = true, false
		}
		if h.minor == 0 && !h.closes && fold(option, "keep-alive") {
			h.keepAlive = true
		}
	}
}

// cutLine takes the first line, without its end, off b, which holds one.
func cutLine(b []byte) (line, rest []byte) {
	i := bytes.IndexByte(b, '\n')
	line, rest = b[:i], b[i+1:]
	if i > 0 && line[i-1] == '\r' {
		line = line[:i-1]
	}
	return line, rest
}

func parseLength(v []byte) (int64, bool) {
	n := int64(0)
	for _, c := range v {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(v) > 0
}

// fold compares without regard to the case of ASCII letters; lower is in lower case.
func fold(v []byte, lower string) bool {
	if len(v) != len(lower) {
		return false
	}
	for i, c := range v {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// isToken reports whether name can be a field name. It is lax about which visible characters, strict about white space.
func isToken(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}

func protocolError(what string) error { return fmt.Errorf("%w: %s", upstream.ErrProtocol, what) }
