package mock

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Script is one reply. The zero value is the plain one: see the fields.
type Script struct {
	// The text.
	Text   string `json:"text,omitempty"`   // a key of Texts, or "echo": the words of the last user message. "sentence"
	Escape string `json:"escape,omitempty"` // "utf8": as little as JSON allows; "ascii": what is not ASCII; "all": every unit. "utf8"
	Events int    `json:"events,omitempty"` // pieces of text; negative: without end. 20; "echo" has its own number
	Bytes  int    `json:"bytes,omitempty"`  // a piece is its text again and again until it has so many bytes of UTF-8
	Pad    int    `json:"pad,omitempty"`    // bytes of a member beside the text, for huge lines

	// The time.
	First Duration `json:"first,omitempty"` // until the first piece of text; the head goes out before, with the role
	Head  Duration `json:"head,omitempty"`  // until the response's head
	Delay Duration `json:"delay,omitempty"` // between two pieces

	// The end.
	Finish    string `json:"finish,omitempty"`     // finish_reason; "none": none comes. "stop"
	Tools     bool   `json:"tools,omitempty"`      // a tool call, in pieces, behind the text
	Refusal   string `json:"refusal,omitempty"`    // behind the text
	NoDone    bool   `json:"no_done,omitempty"`    // no [DONE]
	FailAfter int    `json:"fail_after,omitempty"` // an error object behind so many pieces of text, then the end; 0: none

	// The events' form; see Dresses.
	Dress   []string `json:"dress,omitempty"`
	LineEnd string   `json:"line_end,omitempty"` // "lf", "crlf" or "cr". "lf"

	// The response.
	Status      int    `json:"status,omitempty"`       // other than 200: an error object in place of a stream
	RetryAfter  string `json:"retry_after,omitempty"`  // the field's value
	ContentType string `json:"content_type,omitempty"` // "none": no such field. "text/event-stream; charset=utf-8"
	Framing     string `json:"framing,omitempty"`      // HTTP/1.1: "chunked", "length" or "close" (until the end of the connection). "chunked"
	Close       bool   `json:"close,omitempty"`        // no keep-alive; HTTP/2: GOAWAY
	WriteBytes  int    `json:"write_bytes,omitempty"`  // the body goes out in pieces of so many bytes; 0: an event at a time

	// The accident.
	Cut   string `json:"cut,omitempty"`    // see Cuts; "": none
	CutAt int64  `json:"cut_at,omitempty"` // bytes of the body that come before

	Tag string `json:"tag,omitempty"` // names the request in Stats
}

// The values of Script.Cut.
const (
	CutEnd   = "end"   // the response ends in order, the completion does not
	CutAbort = "abort" // HTTP/1.1: the connection ends; HTTP/2: RST_STREAM
	CutClose = "close" // the connection ends with a FIN, whatever it carries; HTTP/2 may lose some of what came before
	CutReset = "reset" // likewise, with a RST, which may overtake what came before
	CutStall = "stall" // nothing more comes
)

// Cuts are the values of Script.Cut.
var Cuts = []string{CutEnd, CutAbort, CutClose, CutReset, CutStall}

// Dresses are the elements of Script.Dress: legal forms of an event that few servers use.
var Dresses = []string{
	"bom",      // a byte order mark before the first
	"comments", // a comment before each, and an event without data
	"fields",   // event, id, retry and unknown fields in each
	"split",    // data of two lines, which a client joins with a line feed
	"tight",    // no space behind the colon
	"spaces",   // white space between the tokens of the JSON
}

// Duration is a time.Duration that reads and writes text, for JSON and flags.
type Duration time.Duration

// MarshalText is time.Duration's String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText is time.ParseDuration.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// defaultEvents is Script.Events when it is 0.
const defaultEvents = 20

// withDefaults fills in what is not set.
func (s Script) withDefaults() Script {
	for _, f := range []struct {
		field *string
		value string
	}{
		{&s.Text, "sentence"}, {&s.Escape, "utf8"}, {&s.Finish, "stop"}, {&s.LineEnd, "lf"}, {&s.Framing, "chunked"},
		{&s.ContentType, "text/event-stream; charset=utf-8"},
	} {
		if *f.field == "" {
			*f.field = f.value
		}
	}
	if s.Events == 0 {
		s.Events = defaultEvents
	}
	if s.Status == 0 {
		s.Status = 200
	}
	return s
}

// Check refuses what is no script; the error says which field. The zero value is one.
func (s Script) Check() error {
	s = s.withDefaults()
	_, known := Texts[s.Text]
	for _, f := range []struct {
		ok   bool
		name string
	}{
		{known || s.Text == "echo", "text"},
		{slices.Contains([]string{"utf8", "ascii", "all"}, s.Escape), "escape"},
		{slices.Contains([]string{"lf", "crlf", "cr"}, s.LineEnd), "line_end"},
		{slices.Contains([]string{"chunked", "length", "close"}, s.Framing), "framing"},
		{s.Cut == "" || slices.Contains(Cuts, s.Cut), "cut"},
		{s.Bytes >= 0, "bytes"},
		{s.Pad >= 0, "pad"},
		{s.First >= 0, "first"},
		{s.Head >= 0, "head"},
		{s.Delay >= 0, "delay"},
		{s.FailAfter >= 0, "fail_after"},
		{s.WriteBytes >= 0, "write_bytes"},
		{s.CutAt >= 0, "cut_at"},
		{s.Status >= 200 && s.Status <= 599, "status"},
	} {
		if !f.ok {
			return fmt.Errorf("mock: the script's %s cannot be played", f.name)
		}
	}
	for _, d := range s.Dress {
		if !slices.Contains(Dresses, d) {
			return fmt.Errorf("mock: the script's dress %q is not one of %s", d, strings.Join(Dresses, ", "))
		}
	}
	if s.Events < 0 && s.Framing == "length" {
		return errors.New("mock: a script without end has no length")
	}
	return nil
}

func (s *Script) wears(dress string) bool { return slices.Contains(s.Dress, dress) }
