package h1

import "bytes"

// Limits of what chunked coding carries beside data. Nobody has been seen to send either.
const (
	chunkLineMax = 1 << 10  // bytes of a size line, extensions included
	trailersMax  = 16 << 10 // bytes
)

// body finds the end of one response body and takes chunked coding off. It holds no bytes: data is given as slices of
// what comes in, wherever that was cut. The zero body is complete.
type body struct {
	left int64 // bytes to come: of the body, or of the chunk; of nothing else
	line int32 // bytes of the present size line, or of the trailers so far
	at   place
}

// place is where in a body the next byte stands.
type place uint8

const (
	atEnd         place = iota // the body is complete
	atLength                   // left bytes follow
	atClose                    // the end of the connection is the end
	atSizeStart                // the first digit of a chunk's size (RFC 9112, section 7.1)
	atSize                     // a further digit, or what ends them
	atPadding                  // white space after a size: some servers pad it
	atExtension                // up to the CR of the size line; skipped
	atSizeLF                   // the LF of the size line
	atData                     // left bytes of a chunk
	atDataCR                   // the CR after a chunk
	atDataLF                   // its LF
	atTrailer                  // the start of a line after the last chunk
	atTrailerBody              // within a trailer; skipped
	atLastLF                   // the LF of the empty line
)

// newBody gives the body that follows h.
func newBody(h *head) body {
	switch {
	case h.chunked:
		return body{at: atSizeStart}
	case h.length > 0:
		return body{at: atLength, left: h.length}
	case h.length == 0:
		return body{}
	}
	return body{at: atClose}
}

func (b *body) done() bool { return b.at == atEnd }

// next reads in up to the end of the next piece of data: data is that piece, empty when in holds none, and rest is what
// follows it. rest is only left over when data is not empty or the body is complete. The error wraps
// upstream.ErrProtocol; the body cannot go on after it.
func (b *body) next(in []byte) (data, rest []byte, err error) {
	for len(in) > 0 {
		switch b.at {
		case atEnd:
			return nil, in, nil
		case atClose:
			return in, nil, nil
		case atLength, atData:
			n := min(int64(len(in)), b.left)
			if b.left -= n; b.left == 0 {
				b.at = afterData(b.at)
			}
			return in[:n:n], in[n:], nil
		case atExtension, atTrailerBody:
			in, err = b.skip(in)
		default:
			err = b.syntax(in[0])
			in = in[1:]
		}
		if err != nil {
			return nil, nil, err
		}
	}
	return nil, nil, nil
}

func afterData(at place) place {
	if at == atLength {
		return atEnd
	}
	return atDataCR
}

// skip drops bytes up to the end of a line that does not concern us: the CR of an extension, the LF of a trailer.
func (b *body) skip(in []byte) ([]byte, error) {
	end, next := byte('\r'), atSizeLF
	if b.at == atTrailerBody {
		end, next = '\n', atTrailer
	}
	n := bytes.IndexByte(in, end) + 1
	if n > 0 {
		b.at = next
	} else {
		n = len(in)
	}
	return in[n:], b.count(n)
}

// count adds n bytes to the line, or the trailers, and holds them against the limit.
func (b *body) count(n int) error {
	limit := chunkLineMax
	if b.at >= atTrailer || b.at == atEnd {
		limit = trailersMax
	}
	if b.line = int32(min(int(b.line)+n, trailersMax+1)); int(b.line) > limit {
		return protocolError("chunked coding: too much beside the data")
	}
	return nil
}

// syntax takes one byte of chunked coding that is no data.
func (b *body) syntax(c byte) error {
	next, ok := atEnd, false
	switch b.at {
	case atSizeStart:
		b.left, b.line = 0, 0
		next, ok = atSize, b.digit(c)
	case atSize:
		if b.digit(c) {
			next, ok = atSize, b.left>>59 == 0
			break
		}
		next, ok = afterSize(c)
	case atPadding:
		next, ok = afterSize(c)
	case atSizeLF:
		if next, ok = atData, c == '\n'; b.left == 0 {
			next, b.line = atTrailer, 0
		}
	case atDataCR:
		next, ok = atDataLF, c == '\r'
	case atDataLF:
		next, ok = atSizeStart, c == '\n'
	case atTrailer:
		if next, ok = atTrailerBody, c != '\n'; c == '\r' {
			next = atLastLF
		}
	case atLastLF:
		next, ok = atEnd, c == '\n'
	}
	if !ok {
		return protocolError("chunked coding")
	}
	b.at = next
	return b.count(1)
}

// digit adds a hexadecimal digit to the chunk's size.
func (b *body) digit(c byte) bool {
	switch {
	case '0' <= c && c <= '9':
		c -= '0'
	case 'a' <= c && c <= 'f':
		c -= 'a' - 10
	case 'A' <= c && c <= 'F':
		c -= 'A' - 10
	default:
		return false
	}
	b.left = b.left<<4 | int64(c)
	return true
}

// afterSize is the place after c, which follows the digits of a size.
func afterSize(c byte) (place, bool) {
	switch c {
	case '\r':
		return atSizeLF, true
	case ';':
		return atExtension, true
	case ' ', '\t':
		return atPadding, true
	}
	return atEnd, false
}
