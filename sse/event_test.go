package sse_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/sse"
)

func TestAppendEvent(t *testing.T) {
	b := func(s string) []byte { return []byte(s) }
	tests := []struct {
		name string
		ev   sse.Event
		want string
	}{
		{"zero value is an event without text", sse.Event{}, "data: \n\n"},
		{"data", sse.Event{Data: b("x")}, "data: x\n\n"},
		{"everything, in order", sse.Event{ID: b("7"), HasID: true, Name: b("tick"), Data: b("x"), Retry: 1500 * time.Millisecond},
			"id: 7\nevent: tick\nretry: 1500\ndata: x\n\n"},
		{"LF, CR, CRLF", sse.Event{Data: b("a\nb\rc\r\nd")}, "data: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"LFCR is two", sse.Event{Data: b("a\n\rb")}, "data: a\ndata: \ndata: b\n\n"},
		{"line ends at both ends", sse.Event{Data: b("\r\na\n")}, "data: \ndata: a\ndata: \n\n"},
		{"only CRLF", sse.Event{Data: b("\r\n")}, "data: \ndata: \n\n"},
		{"leading space and colon", sse.Event{Data: b(" : x")}, "data:  : x\n\n"},
		{"a forged field is text", sse.Event{Data: b("a\nid: 9\n\n: c")}, "data: a\ndata: id: 9\ndata: \ndata: : c\n\n"},
		{"NUL in data", sse.Event{Data: b("\x00")}, "data: \x00\n\n"},

		{"ID without HasID", sse.Event{ID: b("7"), Data: b("x")}, "data: x\n\n"},
		{"ID cleared", sse.Event{HasID: true, Data: b("x")}, "id: \ndata: x\n\n"},
		{"NUL in ID", sse.Event{ID: b("7\x00"), HasID: true, Data: b("x")}, "data: x\n\n"},
		{"LF in ID", sse.Event{ID: b("7\ndata: y"), HasID: true, Data: b("x")}, "data: x\n\n"},
		{"CR in ID", sse.Event{ID: b("\r7"), HasID: true, Data: b("x")}, "data: x\n\n"},
		{"NUL in Name", sse.Event{Name: b("\x00"), Data: b("x")}, "data: x\n\n"},
		{"LF in Name", sse.Event{Name: b("a\n\n"), Data: b("x")}, "data: x\n\n"},
		{"CR in Name", sse.Event{Name: b("a\rid: 9"), Data: b("x")}, "data: x\n\n"},
		{"space before Name", sse.Event{Name: b(" a"), Data: b("x")}, "event:  a\ndata: x\n\n"},

		{"Retry rounds up", sse.Event{Retry: time.Millisecond + 1, Data: b("x")}, "retry: 2\ndata: x\n\n"},
		{"shortest Retry", sse.Event{Retry: 1, Data: b("x")}, "retry: 1\ndata: x\n\n"},
		{"longest Retry", sse.Event{Retry: math.MaxInt64, Data: b("x")}, "retry: 9223372036855\ndata: x\n\n"},
		{"negative Retry", sse.Event{Retry: -time.Second, Data: b("x")}, "data: x\n\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sse.AppendEvent(b("before"), tt.ev); string(got) != "before"+tt.want {
				t.Errorf("got  %q\nwant %q", got, "before"+tt.want)
			}
		})
	}
}

func TestAppendComment(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", ": \n\n"},
		{"heartbeat", sse.Heartbeat},
		{"a\nb\rc\r\nd", ": a\n: b\n: c\n: d\n\n"},
		{"a\r", ": a\n: \n\n"},
		{"\n\ndata: forged\n\n", ": \n: \n: data: forged\n: \n: \n\n"},
	} {
		got := string(sse.AppendComment([]byte("before"), tt.in))
		if got != "before"+tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, "before"+tt.want)
		}
		if events := reference([]byte(tt.want), 0).events; len(events) != 0 {
			t.Errorf("%q: read back as %+v", tt.in, events)
		}
	}
}

func TestAppendContent(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"", `data: {"content":""}` + "\n\n"},
		{" word", `data: {"content":" word"}` + "\n\n"},
		{"two\nlines \"quoted\"\r\n", `data: {"content":"two\nlines \"quoted\"\r\n"}` + "\n\n"},
	} {
		if got := sse.AppendContent([]byte("before"), tt.in); string(got) != "before"+tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, "before"+tt.want)
		}
	}
}

func TestAppendError(t *testing.T) {
	for _, tt := range []struct {
		message string
		retry   time.Duration
		want    string
	}{
		{"gone", 0, "event: error\n" + `data: {"error":{"message":"gone"}}` + "\n\n"},
		{"a\n\n\"b\"", 2500 * time.Millisecond, "event: error\nretry: 2500\n" + `data: {"error":{"message":"a\n\n\"b\""}}` + "\n\n"},
	} {
		if got := sse.AppendError([]byte("before"), tt.message, tt.retry); string(got) != "before"+tt.want {
			t.Errorf("got %q, want %q", got, "before"+tt.want)
		}
	}
}

func TestConstantBlocks(t *testing.T) {
	if got := string(sse.AppendEvent(nil, sse.Event{Data: []byte("[DONE]")})); got != sse.Done {
		t.Errorf("Done is %q, the encoder writes %q", sse.Done, got)
	}
	if got := string(sse.AppendComment(nil, "heartbeat")); got != sse.Heartbeat {
		t.Errorf("Heartbeat is %q, the encoder writes %q", sse.Heartbeat, got)
	}
}

// Goal: one event in, one event out, whatever the bytes, and nothing of it
// spills into the event behind it. Method: a comment, the event and a plain one
// are encoded, then read by the parser in two pieces and by the reference of
// this test package, which knows nothing of either.
func FuzzAppendEvent(f *testing.F) {
	f.Add("", "", "", false, int64(0), uint(0))
	f.Add("7", "tick", "a\r\nb\rc\n", true, int64(1500), uint(20))
	f.Add("7\x00", "a\nid: 1", "\n\n\ndata: x\r\r", true, int64(-5), uint(31))
	f.Add("\xef\xbb\xbf", " x", "\xef\xbb\xbf: \xff", true, int64(math.MaxInt64), uint(17))
	f.Fuzz(func(t *testing.T, id, name, data string, hasID bool, retryMs int64, cut uint) {
		ev := sse.Event{ID: []byte(id), HasID: hasID, Name: []byte(name), Data: []byte(data)}
		want := event{Name: name, Data: strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(data)}
		if strings.ContainsAny(name, "\x00\r\n") {
			want.Name = ""
		}
		if hasID && !strings.ContainsAny(id, "\x00\r\n") {
			want.ID, want.HasID = id, true
		}
		if ms := min(retryMs, math.MaxInt64/int64(time.Millisecond)); ms > 0 {
			ev.Retry = time.Duration(ms) * time.Millisecond
			want.Retry = ev.Retry
		}
		raw := sse.AppendComment(nil, data)
		raw = sse.AppendEvent(raw, ev)
		raw = sse.AppendEvent(raw, sse.Event{Data: []byte("behind")})
		wants := []event{want, {ID: want.ID, Data: "behind"}}

		at := int(cut % uint(len(raw)))
		got := feed(&sse.Parser{}, raw[:at], raw[at:])
		if got.err != nil || !equalEvents(got.events, wants) {
			t.Fatalf("%q was parsed as %+v, %v\nwant %+v", raw, got.events, got.err, wants)
		}
		if got := reference(raw, 0); !equalEvents(got.events, wants) {
			t.Fatalf("%q is by the standard %+v\nwant %+v", raw, got.events, wants)
		}
	})
}
