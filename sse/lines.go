package sse

import "bytes"

// lineScanner cuts bytes into lines that end in LF, CR or CRLF. Start one with
// lf and cr at -1.
//
// It looks for LF and CR apart, since each search is a vector instruction loop,
// and remembers both finds: without that, text with one kind of line end would
// be searched to its end for the other kind once per line.
type lineScanner struct {
	b      []byte
	pos    int // start of the next line
	lf, cr int // next LF, CR at or after pos, len(b) when there is none; stale when below pos
}

// next gives the next line without its end, and whether it has one; if not, the
// line is the rest, maybe empty, and the scanner stays where it is. The line
// has no spare capacity: appending to it cannot touch what follows.
func (s *lineScanner) next() (line []byte, ended bool) {
	if s.lf < s.pos {
		s.lf = s.find('\n')
	}
	if s.cr < s.pos {
		s.cr = s.find('\r')
	}
	end := min(s.lf, s.cr)
	line = s.b[s.pos:end:end]
	if end == len(s.b) {
		return line, false
	}
	s.pos = end + 1
	if s.lf == end+1 && s.lf < len(s.b) {
		s.pos = s.lf + 1 // CRLF
	}
	return line, true
}

func (s *lineScanner) find(c byte) int {
	if i := bytes.IndexByte(s.b[s.pos:], c); i >= 0 {
		return s.pos + i
	}
	return len(s.b)
}
