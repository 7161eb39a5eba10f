package accesslog

import (
	"net/netip"
	"strconv"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/escape"
)

// Entry is what there is to say of one client.
type Entry struct {
	Start     time.Time      // when its handoff was accepted
	Client    netip.AddrPort // the zero AddrPort: a Unix socket
	UserID    string         // as the payload says; empty: it does not. Likewise RequestID
	RequestID string
	Backend   string
	Listener  string // kind of the handoff socket
	Status    int    // of the response head; 0: none was sent
	Bytes     uint64 // that the kernel took, head included
	Events    uint64
	FirstByte time.Duration // since Start; 0: there was none
	Duration  time.Duration
	End       string // how it ended, in one word of ours
	Error     string // more about that; may be empty

	// Of the server that the backend has asked; without a status there are no such fields in the line.
	UpstreamStatus    int
	UpstreamFirstByte time.Duration // since it was asked; 0: no byte came
	UpstreamDuration  time.Duration // 0: it was still answering
}

// Format is how a line looks.
type Format uint8

const (
	JSON     Format = iota // an object per line
	Combined               // Apache's "combined", and further fields behind it as name=value
)

// ParseFormat reads "json" or "combined"; anything else is JSON.
func ParseFormat(s string) Format {
	if s == "combined" {
		return Combined
	}
	return JSON
}

// Append adds the line of e with its line end.
func (f Format) Append(dst []byte, e *Entry) []byte {
	if f == Combined {
		return appendCombined(dst, e)
	}
	return appendJSON(dst, e)
}

func appendJSON(dst []byte, e *Entry) []byte {
	text := func(name, value string) {
		dst = append(append(append(dst, `,"`...), name...), `":`...)
		dst = escape.AppendJSON(dst, value)
	}
	number := func(name string, n uint64) {
		dst = append(append(append(dst, `,"`...), name...), `":`...)
		dst = strconv.AppendUint(dst, n, 10)
	}
	dst = append(dst, `{"time":"`...)
	dst = e.Start.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z07:00")
	dst = append(dst, '"')
	text("client", address(e.Client))
	number("client_port", uint64(e.Client.Port()))
	text("user_id", e.UserID)
	text("request_id", e.RequestID)
	text("backend", e.Backend)
	text("listener", e.Listener)
	number("status", uint64(e.Status))
	number("bytes", e.Bytes)
	number("events", e.Events)
	dst = append(dst, `,"first_byte_seconds":`...)
	dst = appendFirstByte(dst, e.FirstByte, "null")
	dst = append(dst, `,"duration_seconds":`...)
	dst = appendSeconds(dst, e.Duration)
	text("end", e.End)
	text("error", e.Error)
	if e.UpstreamStatus != 0 {
		number("upstream_status", uint64(e.UpstreamStatus))
		dst = append(dst, `,"upstream_first_byte_seconds":`...)
		dst = appendFirstByte(dst, e.UpstreamFirstByte, "null")
		dst = append(dst, `,"upstream_seconds":`...)
		dst = appendFirstByte(dst, e.UpstreamDuration, "null")
	}
	return append(dst, '}', '\n')
}

// appendCombined: %h %l %u %t "%r" %>s %O "%{Referer}i" "%{User-Agent}i", of which the web server alone knows the request
// line, the referer and the user agent. A space in the user is escaped too, which Apache does not do: it would let a
// user id make fields of its own.
func appendCombined(dst []byte, e *Entry) []byte {
	dst = appendField(dst, address(e.Client))
	dst = append(dst, " - "...)
	dst = appendField(dst, e.UserID)
	dst = append(dst, ' ')
	dst = e.Start.AppendFormat(dst, "[02/Jan/2006:15:04:05 -0700]")
	dst = append(dst, ` "-" `...)
	if e.Status == 0 {
		dst = append(dst, '-')
	} else {
		dst = strconv.AppendInt(dst, int64(e.Status), 10)
	}
	dst = append(dst, ' ')
	dst = strconv.AppendUint(dst, e.Bytes, 10)
	dst = append(dst, ` "-" "-" request_id="`...)
	dst = escape.AppendApache(dst, e.RequestID, 0)
	dst = append(dst, `" backend=`...)
	dst = appendField(dst, e.Backend)
	dst = append(dst, " listener="...)
	dst = appendField(dst, e.Listener)
	dst = append(dst, " events="...)
	dst = strconv.AppendUint(dst, e.Events, 10)
	dst = append(dst, " first_byte="...)
	dst = appendFirstByte(dst, e.FirstByte, "-")
	dst = append(dst, " duration="...)
	dst = appendSeconds(dst, e.Duration)
	dst = append(dst, " end="...)
	dst = appendField(dst, e.End)
	dst = append(dst, ` error="`...)
	dst = escape.AppendApache(dst, e.Error, 0)
	dst = append(dst, '"')
	if e.UpstreamStatus != 0 {
		dst = append(dst, " upstream_status="...)
		dst = strconv.AppendInt(dst, int64(e.UpstreamStatus), 10)
		dst = append(dst, " upstream_first_byte="...)
		dst = appendFirstByte(dst, e.UpstreamFirstByte, "-")
		dst = append(dst, " upstream="...)
		dst = appendFirstByte(dst, e.UpstreamDuration, "-")
	}
	return append(dst, '\n')
}

// appendField adds a field that stands without quotes, "-" for an empty one.
func appendField(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, '-')
	}
	return escape.AppendApache(dst, s, ' ')
}

// address is the client's, empty for a Unix socket.
func address(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr().String()
}

// appendFirstByte adds a time that may not have come, 0, for which none stands.
func appendFirstByte(dst []byte, d time.Duration, none string) []byte {
	if d == 0 {
		return append(dst, none...)
	}
	return appendSeconds(dst, d)
}

// appendSeconds adds d in seconds, to the microsecond.
func appendSeconds(dst []byte, d time.Duration) []byte {
	return strconv.AppendFloat(dst, d.Seconds(), 'f', 6, 64)
}
