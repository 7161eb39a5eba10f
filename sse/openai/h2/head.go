package h2

import (
	"fmt"
	"math"
	"strings"

	"golang.org/x/net/http2/hpack"

	"streaming-daemon-go/sse/openai/upstream"
)

const (
	listMax      = 64 << 10 // bytes of a header list, as counted in RFC 9113, 6.5.2; what we tell the server
	blockMax     = 2 * listMax
	fragmentsMax = 16 // frames of a block. blockMax needs 8; more are many small ones, each of which costs us more than the server
	tableBytes   = 4096
)

const _ = uint(fragmentsMax*frameMax - blockMax) // fails to compile unless a block of full frames fits

// block is a header block as it is decoded: a response's head or its trailers. Owned by the reader. A block must be
// decoded even when nobody wants it: those after it build on its table.
type block struct {
	dec       *hpack.Decoder
	id        uint32 // of its stream
	end       bool   // it ends the stream
	bytes     int    // so far, as they came
	fragments int    // frames so far

	// of the fields so far
	size        int  // as a header list; past listMax nothing more is looked at
	regular     bool // a field that is no pseudo-header has come
	encoded     bool // with a content coding
	status      int
	length      int64  // negative: not declared
	wrong       string // what makes it malformed (RFC 9113, section 8.1.1); "": nothing
	contentType []byte
	retryAfter  []byte
}

func (b *block) init() {
	b.dec = hpack.NewDecoder(tableBytes, b.field)
	b.dec.SetMaxStringLength(listMax)
}

func (b *block) begin(id uint32, end bool) {
	*b = block{dec: b.dec, id: id, end: end, length: -1}
	b.dec.SetEmitEnabled(true)
}

// field takes a decoded field.
func (b *block) field(f hpack.HeaderField) {
	if b.size += int(f.Size()); b.size > listMax {
		b.dec.SetEmitEnabled(false)
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		b.pseudo(f)
		return
	}
	b.regular = true
	if !validName(f.Name) || !validValue(f.Value) {
		b.malformed("field")
	}
	switch f.Name {
	case "content-type":
		if b.contentType == nil {
			b.contentType = []byte(strings.Trim(f.Value, " \t"))
		}
	case "retry-after":
		if b.retryAfter == nil {
			b.retryAfter = []byte(strings.Trim(f.Value, " \t"))
		}
	case "content-length":
		n, ok := parseLength(f.Value)
		if !ok || b.length >= 0 && b.length != n {
			b.malformed("content length")
		}
		b.length = n
	case "content-encoding":
		b.encoded = b.encoded || f.Value != "" && !strings.EqualFold(f.Value, "identity")
	case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade":
		b.malformed("connection-specific field")
	}
}

// pseudo takes a pseudo-header field: a response has :status alone, once and first (RFC 9113, section 8.3).
func (b *block) pseudo(f hpack.HeaderField) {
	if f.Name != ":status" || b.status != 0 || b.regular || len(f.Value) != 3 {
		b.malformed("pseudo-header field")
		return
	}
	for _, c := range []byte(f.Value) {
		if c < '0' || c > '9' {
			b.malformed("status")
			return
		}
		b.status = b.status*10 + int(c-'0')
	}
	if b.status < 100 || b.status > 599 || b.status == 101 { // 101: HTTP/2 has none (RFC 9113, section 8.6)
		b.malformed("status")
	}
}

func (b *block) malformed(what string) {
	if b.wrong == "" {
		b.wrong = what
	}
}

// head judges the block as a response's head, interim ones included.
func (b *block) head() error {
	switch {
	case b.size > listMax:
		return protocolError("head too large")
	case b.wrong != "":
		return protocolError(b.wrong)
	case b.status == 0:
		return protocolError("no status")
	case b.status < 200 && b.end:
		return protocolError("interim response at the end")
	case b.status < 200:
		return nil
	}
	if b.status == 204 || b.status == 304 { // 304: its length is that of another response (RFC 9110, 8.6)
		b.length = 0
	}
	if b.encoded && b.length != 0 && !b.end {
		return protocolError("content coding")
	}
	return nil
}

// trailers judges the block as what follows a body.
func (b *block) trailers() error {
	switch {
	case b.size > listMax:
		return protocolError("trailers too large")
	case b.wrong != "":
		return protocolError(b.wrong)
	case b.status != 0 || !b.end:
		return protocolError("a second head")
	}
	return nil
}

func parseLength(v string) (int64, bool) {
	n := int64(0)
	for _, c := range []byte(v) {
		if c < '0' || c > '9' || n > (math.MaxInt64-9)/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, v != ""
}

// validName: a token without upper-case letters (RFC 9113, section 8.2.1; RFC 9110, section 5.6.2).
func validName(name string) bool {
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return name != ""
}

// validValue: no control character but the tab (RFC 9110, section 5.5).
func validValue(v string) bool {
	for _, c := range []byte(v) {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func protocolError(what string) error { return fmt.Errorf("%w: %s", upstream.ErrProtocol, what) }
