package sse

import (
	"bytes"
	"errors"
	"math"
	"time"
)

// ErrEventTooLarge: one event has more than MaxEventBytes. The parser is stuck
// from then on: close the stream, or Reset for another one.
var ErrEventTooLarge = errors.New("sse: event too large")

const (
	maxEventBytesDefault = 1 << 20  // bytes; far above any event of ours, small enough to hold for a few bad streams
	keepBytes            = 16 << 10 // bytes of capacity each buffer of an idle parser may keep, so that one large event does not cost its memory for good
)

// bom is U+FEFF in UTF-8; one at the very start of a stream is dropped.
const bom = "\uFEFF"

// Parser reads an event stream that comes in pieces cut anywhere. The zero
// value is ready. It belongs to one stream and is not safe for concurrent use.
//
// It is made to exist once per stream in great numbers: 96 bytes, no buffer as
// long as every piece ends at a block's end, and then the events point into the
// piece itself. Buffers appear for a block that is spread over pieces, for data
// of more than one line (which must be joined), and for the last event ID.
// Once they have grown nothing is allocated per event.
type Parser struct {
	// MaxEventBytes bounds one event: all its lines but comments, a byte for
	// each line end included. 0 means 1 MiB. Set it before the first Feed.
	MaxEventBytes int

	// held is the unfinished block: its lines so far, each ended by LF, without
	// comments, and maybe the start of a line. Its length is the event's size
	// that MaxEventBytes is held against.
	held   []byte
	joined []byte        // data of the present block when it has more than one line
	lastID []byte        // last event ID, as of the last blank line
	retry  time.Duration // reconnection time, as of the last blank line; 0: never set

	bomSeen   uint8 // bytes of bom matched so far; len(bom) once the start of the stream is behind us
	afterCR   bool  // the piece before ended in CR: an LF now belongs to that line end
	inComment bool  // the piece before ended inside a comment line
	tooLarge  bool  // ErrEventTooLarge was returned
}

// Feed reads the next bytes of the stream and calls emit for every event that
// they complete, in order and before it returns. It keeps no reference to b.
// emit must not call methods of p; what an Event points to is valid until emit
// returns.
//
// The only error is ErrEventTooLarge, after the events before the large one
// were emitted; each later Feed returns it again. There is no call for the end
// of input: an unfinished event is simply never emitted.
//
// The rules are those of the HTML standard, 9.2.6, on bytes: a browser that
// decodes before it parses finds the same line ends, since a UTF-8 decoder never
// swallows an ASCII byte. Where the standard leaves the choice: an empty
// retry field is ignored. One difference: a retry field counts from its block's
// blank line on, as the id does, not from its own line on.
func (p *Parser) Feed(b []byte, emit func(Event)) error {
	if p.tooLarge {
		return ErrEventTooLarge
	}
	if int(p.bomSeen) < len(bom) {
		b = p.skipBOM(b)
	}
	if len(b) == 0 {
		return nil
	}
	if p.afterCR && b[0] == '\n' {
		b = b[1:]
	}
	s := lineScanner{b: b, lf: -1, cr: -1}
	ok := true
	if len(p.held) > 0 || p.inComment {
		ok = p.hold(&s, emit)
	}
	if ok {
		var rest []byte
		rest, ok = p.inPlace(&s, emit)
		// No blank line is left in rest, so there is nothing to emit.
		ok = ok && p.hold(&lineScanner{b: rest, lf: -1, cr: -1}, nil)
	}
	if !ok {
		p.tooLarge = true
		return ErrEventTooLarge
	}
	p.afterCR = len(b) > 0 && b[len(b)-1] == '\r'
	return nil
}

// LastEventID gives what a client would send as Last-Event-ID if the stream
// broke here: that of the last finished block, empty when there is none.
func (p *Parser) LastEventID() string { return string(p.lastID) }

// Retry gives the reconnection time that the stream has set, by an event or by a
// block without data, which emits nothing; 0 when it has set none.
func (p *Parser) Retry() time.Duration { return p.retry }

// Reset makes p ready for the start of another stream. It forgets everything,
// the last event ID included, but MaxEventBytes and the buffers' memory.
func (p *Parser) Reset() {
	*p = Parser{
		MaxEventBytes: p.MaxEventBytes,
		held:          emptied(p.held),
		joined:        emptied(p.joined),
		lastID:        emptied(p.lastID),
	}
}

// skipBOM takes the BOM, or as much of it as b holds, from the front of b. Bytes
// of earlier pieces that turn out to be no BOM are the start of the first line.
func (p *Parser) skipBOM(b []byte) []byte {
	for len(b) > 0 && int(p.bomSeen) < len(bom) {
		if b[0] != bom[p.bomSeen] {
			p.held = append(p.held, bom[:p.bomSeen]...)
			p.bomSeen = uint8(len(bom))
			break
		}
		p.bomSeen++
		b = b[1:]
	}
	return b
}

// inPlace emits the blocks that s holds whole, without a copy, and gives the
// bytes of the last, unfinished one. It gives false when a line makes its block
// too large. Nothing is held when it is called.
func (p *Parser) inPlace(s *lineScanner, emit func(Event)) (rest []byte, ok bool) {
	var blk block
	start, size, sizeMax := s.pos, 0, p.maxBytes()
	for {
		line, ended := s.next()
		switch {
		case !ended:
			return s.b[start:], true
		case len(line) == 0:
			p.dispatch(&blk, emit)
			blk = block{}
			start, size = s.pos, 0
		case line[0] != ':':
			if size += len(line) + 1; size > sizeMax {
				return nil, false
			}
			p.add(&blk, line)
		}
	}
}

// hold adds lines of s to the unfinished block until a blank line ends it, which
// emits it, or s ends. It gives false when the block became too large. The
// lines of a block are looked at only when it is whole, so the work is linear
// in its bytes however they are cut.
func (p *Parser) hold(s *lineScanner, emit func(Event)) bool {
	sizeMax := p.maxBytes()
	for {
		line, ended := s.next()
		lineStart := len(p.held) == 0 || p.held[len(p.held)-1] == '\n'
		switch {
		case p.inComment:
			p.inComment = !ended
		case lineStart && len(line) == 0 && ended:
			p.dispatchHeld(emit)
			return true
		case lineStart && len(line) > 0 && line[0] == ':':
			p.inComment = !ended
		default:
			p.held = append(p.held, line...)
			if ended {
				p.held = append(p.held, '\n')
			}
			if len(p.held) > sizeMax {
				return false
			}
		}
		if !ended {
			s.pos = len(s.b)
			return true
		}
	}
}

func (p *Parser) maxBytes() int {
	if p.MaxEventBytes > 0 {
		return p.MaxEventBytes
	}
	return maxEventBytesDefault
}

// block is what the lines of the present block amount to. Its slices point into
// the piece, into held, or (data of several lines) to joined.
type block struct {
	id, name, data []byte
	retry          time.Duration
	dataLines      int
	hasID          bool
	hasRetry       bool
}

// add takes one line that is neither blank nor a comment.
func (p *Parser) add(blk *block, line []byte) {
	field, value := line, line[len(line):]
	if colon := bytes.IndexByte(line, ':'); colon >= 0 {
		field, value = line[:colon], line[colon+1:]
		if len(value) > 0 && value[0] == ' ' {
			value = value[1:]
		}
	}
	switch string(field) {
	case "data":
		switch blk.dataLines {
		case 0:
			blk.data = value
		case 1:
			p.joined = append(p.joined[:0], blk.data...)
			fallthrough
		default:
			p.joined = append(p.joined, '\n')
			p.joined = append(p.joined, value...)
			blk.data = p.joined
		}
		blk.dataLines++
	case "event":
		blk.name = value
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			blk.id, blk.hasID = value, true
		}
	case "retry":
		if d, ok := parseRetry(value); ok {
			blk.retry, blk.hasRetry = d, true
		}
	}
}

// dispatch is the blank line: id and retry take effect, and a block that has
// data, be it empty, is emitted.
func (p *Parser) dispatch(blk *block, emit func(Event)) {
	if blk.hasID {
		p.lastID = append(p.lastID[:0], blk.id...)
	}
	if blk.hasRetry {
		p.retry = blk.retry
	}
	if blk.dataLines > 0 {
		emit(Event{
			ID:    p.lastID,
			Name:  blk.name,
			Data:  blk.data,
			HasID: blk.hasID,
			Retry: blk.retry,
		})
	}
	if blk.dataLines > 1 {
		p.joined = emptied(p.joined)
	}
}

// dispatchHeld is dispatch for the block in held, which is empty afterwards.
func (p *Parser) dispatchHeld(emit func(Event)) {
	var blk block
	for b := p.held; len(b) > 0; {
		end := bytes.IndexByte(b, '\n') // every line in held ends in LF here
		p.add(&blk, b[:end:end])
		b = b[end+1:]
	}
	p.dispatch(&blk, emit)
	p.held = emptied(p.held)
}

// parseRetry reads decimal digits as milliseconds; more than a Duration can hold
// is the longest one. Anything but digits, or none: not ok.
func parseRetry(v []byte) (d time.Duration, ok bool) {
	const msMax = math.MaxInt64 / int64(time.Millisecond)
	var ms int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		ms = min(ms*10+int64(c-'0'), msMax) // msMax*10+9 is below 1<<63: no overflow
	}
	return time.Duration(ms) * time.Millisecond, len(v) > 0
}

// emptied gives b with length 0, or nil when it is too large to keep.
func emptied(b []byte) []byte {
	if cap(b) > keepBytes {
		return nil
	}
	return b[:0]
}
