package sse_test

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/sse"
)

// streams are inputs with what a browser makes of them.
var streams = []struct {
	name        string
	in          string
	want        []event
	lastEventID string
	retry       time.Duration
}{
	{name: "nothing", in: ""},
	{name: "one", in: "data: x\n\n", want: []event{{Data: "x"}}},
	{name: "every field", in: "id: 7\nevent: tick\nretry: 1500\ndata: x\n\n",
		want:        []event{{ID: "7", HasID: true, Name: "tick", Data: "x", Retry: 1500 * time.Millisecond}},
		lastEventID: "7", retry: 1500 * time.Millisecond},
	{name: "data lines joined, other fields between", in: "data: a\nevent: e\ndata:  b\nfoo: bar\ndata\ndata:\n\n",
		want: []event{{Name: "e", Data: "a\n b\n\n"}}},
	{name: "one space is taken off", in: "data:x\n\ndata: x\n\ndata:  x\n\ndata:\tx\n\n",
		want: []event{{Data: "x"}, {Data: "x"}, {Data: " x"}, {Data: "\tx"}}},
	{name: "empty data is an event", in: "data\n\ndata:\n\ndata: \n\ndata\ndata\n\n",
		want: []event{{}, {}, {}, {Data: "\n"}}},
	{name: "no data is none, and its name is forgotten", in: "event: e\n\ndata: x\n\n\n\n\n",
		want: []event{{Data: "x"}}},
	{name: "id without data counts, retry too", in: "id: 7\nretry: 20\n\ndata: x\n\n",
		want: []event{{ID: "7", Data: "x"}}, lastEventID: "7", retry: 20 * time.Millisecond},
	{name: "id persists and is cleared", in: "id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\ndata: d\n\n",
		want: []event{{ID: "7", HasID: true, Data: "a"}, {ID: "7", Data: "b"}, {HasID: true, Data: "c"}, {Data: "d"}}},
	{name: "id with NUL is ignored", in: "id: 7\nid: 8\x00\ndata: a\n\nid: \x00\ndata: b\n\n",
		want: []event{{ID: "7", HasID: true, Data: "a"}, {ID: "7", Data: "b"}}, lastEventID: "7"},
	{name: "the last of a field wins", in: "id: 7\nid: 8\nevent: e\nevent: f\nretry: 1\nretry: 2\ndata: x\n\n",
		want:        []event{{ID: "8", HasID: true, Name: "f", Data: "x", Retry: 2 * time.Millisecond}},
		lastEventID: "8", retry: 2 * time.Millisecond},
	{name: "an empty name is the default", in: "event: e\nevent:\ndata: x\n\n", want: []event{{Data: "x"}}},
	{name: "retry takes digits only", in: "retry: 5\nretry: -1\nretry: 1.5\nretry: 5s\nretry:  6\nretry:\nretry: \u0665\ndata: x\n\n",
		want: []event{{Data: "x", Retry: 5 * time.Millisecond}}, retry: 5 * time.Millisecond},
	{name: "retry beyond a Duration", in: "retry: 0018446744073709551617\ndata: x\n\n",
		want:  []event{{Data: "x", Retry: math.MaxInt64 / 1_000_000 * 1_000_000}},
		retry: math.MaxInt64 / 1_000_000 * 1_000_000},
	{name: "retry 0", in: "retry: 9\n\nretry: 0\n\ndata: x\n\n", want: []event{{Data: "x"}}},
	{name: "comments", in: ": a\n:\n\n:b\ndata: x\n: c\n:\ndata: y\n: d\n\n:", want: []event{{Data: "x\ny"}}},
	{name: "unknown fields", in: "Data: x\ndata : x\n data: x\ndatas: x\ndat: x\nevent.: x\nxdata\n\n"},
	{name: "colon in the value", in: "data: a:b\ndata::\n\n", want: []event{{Data: "a:b\n:"}}},
	{name: "CR", in: "data: a\rdata: b\r\rdata: c\r\r", want: []event{{Data: "a\nb"}, {Data: "c"}}},
	{name: "CRLF", in: "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", want: []event{{Data: "a\nb"}, {Data: "c"}}},
	{name: "mixed", in: "data: a\r\n\ndata: b\n\rdata: c\r\r\ndata: d\r\n\rdata: e\n\r\n: f\r\n",
		want: []event{{Data: "a"}, {Data: "b"}, {Data: "c"}, {Data: "d"}, {Data: "e"}}},
	{name: "starts with line ends", in: "\r\n\n\rdata: x\n\n", want: []event{{Data: "x"}}},
	{name: "BOM", in: "\ufeffdata: x\n\n", want: []event{{Data: "x"}}},
	{name: "BOM before a comment", in: "\ufeff: c\ndata: x\n\n", want: []event{{Data: "x"}}},
	{name: "only one BOM", in: "\ufeff\ufeffdata: x\n\ndata: y\n\n", want: []event{{Data: "y"}}},
	{name: "only at the start", in: "\n\ufeffdata: x\n\ndata: \ufeffy\n\n", want: []event{{Data: "\ufeffy"}}},
	{name: "two thirds of one", in: "\xef\xbbdata: x\n\ndata: y\n\n", want: []event{{Data: "y"}}},
	{name: "unfinished event", in: "data: a\n\nid: 9\nretry: 9\ndata: b\n", want: []event{{Data: "a"}}},
	{name: "unfinished line", in: "data: a\n\ndata: b", want: []event{{Data: "a"}}},
	{name: "bytes that are no UTF-8", in: "data: \xff\xe4\xb8\ndata: \x00\n\n", want: []event{{Data: "\xff\xe4\xb8\n\x00"}}},
}

func TestParser(t *testing.T) {
	for _, tt := range streams {
		t.Run(tt.name, func(t *testing.T) {
			want := outcome{tt.want, tt.lastEventID, tt.retry, nil}
			if got := feed(&sse.Parser{}, []byte(tt.in)); !got.equal(want) {
				t.Errorf("%q\ngot  %+v\nwant %+v", tt.in, got, want)
			}
			if got := reference([]byte(tt.in), 0); !got.equal(want) {
				t.Errorf("%q: this row or the reference is wrong: it has %+v", tt.in, got)
			}
		})
	}
}

// Goal: where the bytes were cut does not matter. Method: every stream above in
// every two and three pieces, and byte by byte with empty pieces between.
func TestParserEveryCut(t *testing.T) {
	for _, tt := range streams {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			want := outcome{tt.want, tt.lastEventID, tt.retry, nil}
			for i := range len(in) + 1 {
				for j := i; j <= len(in); j++ {
					if got := feed(&sse.Parser{}, in[:i], in[i:j], in[j:]); !got.equal(want) {
						t.Fatalf("%q + %q + %q\ngot  %+v\nwant %+v", in[:i], in[i:j], in[j:], got, want)
					}
				}
			}
			var bytewise [][]byte
			for i := range in {
				bytewise = append(bytewise, in[i:i+1], nil)
			}
			if got := feed(&sse.Parser{}, bytewise...); !got.equal(want) {
				t.Fatalf("byte by byte\ngot  %+v\nwant %+v", got, want)
			}
		})
	}
}

// Goal: an event goes out with the byte that completes it, not with the one
// after. Method: the number of events after each byte of a CR stream, where the
// parser could be tempted to wait for an LF.
func TestParserDoesNotWait(t *testing.T) {
	var p sse.Parser
	var counts []int
	n := 0
	for _, c := range []byte("data:a\r\n\r\ndata:b\r\r\n") {
		if err := p.Feed([]byte{c}, func(sse.Event) { n++ }); err != nil {
			t.Fatal(err)
		}
		counts = append(counts, n)
	}
	want := "[0 0 0 0 0 0 0 0 1 1 1 1 1 1 1 1 1 2 2]"
	if got := fmt.Sprint(counts); got != want {
		t.Errorf("events after each byte: %s, want %s", got, want)
	}
}

// Goal: MaxEventBytes counts an event's lines, not comments and not other
// events, and counts the same for every cut.
func TestParserEventTooLarge(t *testing.T) {
	const eventBytesMax = 16
	tests := []struct {
		name string
		in   string
		want error
	}{
		{"exactly", "data: 456789012\n\n", nil}, // 15 bytes and LF
		{"one more", "data: 4567890123\n\n", sse.ErrEventTooLarge},
		{"over two lines", "data: 6\ndata: 4\n\n", nil},
		{"one more over two lines", "data: 6\ndata: 45\n\n", sse.ErrEventTooLarge},
		{"CRLF counts once", "data: 6\r\ndata: 4\r\n\r\n", nil},
		{"unfinished line", "data: 67890123456", sse.ErrEventTooLarge},
		{"unfinished line in bounds", "data: 6789012345", nil},
		{"unknown fields count", "something: 345678\n\n", sse.ErrEventTooLarge},
		{"a long comment", ": " + strings.Repeat("c", 100) + "\ndata: x\n\n", nil},
		{"many comments in an event", "data: x\n" + strings.Repeat(": c\n", 100) + "\n", nil},
		{"many events", strings.Repeat("data: x\n\n", 100), nil},
		{"blank lines", strings.Repeat("\n", 100) + "data: x\n\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte("data: first\n\n" + tt.in)
			for i := range len(in) + 1 {
				got := feed(&sse.Parser{MaxEventBytes: eventBytesMax}, in[:i], in[i:])
				if !errors.Is(got.err, tt.want) {
					t.Fatalf("%q + %q: error %v, want %v", in[:i], in[i:], got.err, tt.want)
				}
				if want := reference(in, eventBytesMax); !got.equal(want) {
					t.Fatalf("%q + %q: %+v, want %+v", in[:i], in[i:], got, want)
				}
			}
		})
	}
}

func TestParserDefaultMax(t *testing.T) {
	exactly := "data: " + strings.Repeat("x", 1<<20-len("data: \n"))
	if got := feed(&sse.Parser{}, []byte(exactly+"\n\n")); got.err != nil || len(got.events) != 1 {
		t.Errorf("1 MiB: %d events, %v", len(got.events), got.err)
	}
	if got := feed(&sse.Parser{}, []byte(exactly+"x\n\n")); !errors.Is(got.err, sse.ErrEventTooLarge) {
		t.Errorf("1 MiB and a byte: %v", got.err)
	}
}

// Goal: after ErrEventTooLarge nothing is emitted until Reset, and after Reset
// nothing of the old stream is left, wherever it stopped.
func TestParserReset(t *testing.T) {
	p := sse.Parser{MaxEventBytes: 16}
	if got := feed(&p, []byte("data: 45678901234567\n\n"), []byte("data: x\n\n")); !errors.Is(got.err, sse.ErrEventTooLarge) || len(got.events) != 0 {
		t.Fatalf("%+v", got)
	}
	if err := p.Feed([]byte("data: x\n\n"), nil); !errors.Is(err, sse.ErrEventTooLarge) {
		t.Fatalf("the error is not returned again: %v", err)
	}
	for _, before := range []string{"id: 7\nretry: 5\ndata: a\n\n", "id: 7\ndata: a", "data: a\r", ": c", "\xef\xbb", "data: a\ndata: b\n"} {
		p.Reset()
		feed(&p, []byte(before))
		p.Reset()
		got := feed(&p, []byte("\ufeff\ndata: x\n\ndata: 4567890123\n\n"))
		want := outcome{events: []event{{Data: "x"}}, err: sse.ErrEventTooLarge}
		if !got.equal(want) {
			t.Errorf("after %q: %+v, want %+v", before, got, want)
		}
	}
}

// Goal: what emit gets cannot be used to write over the rest of the event or what
// comes next. Method: append to each slice inside emit before it is read.
func TestParserSlicesHaveNoRoom(t *testing.T) {
	const in = "id: 7\nevent: e\ndata: a\n\ndata: b\ndata: c\n\nevent: f\ndata: d\n\n"
	want := feed(&sse.Parser{}, []byte(in))
	for i := range len(in) {
		var p sse.Parser
		var got []event
		for _, piece := range []string{in[:i], in[i:]} {
			if err := p.Feed([]byte(piece), func(ev sse.Event) {
				_, _, _ = append(ev.ID, "################"...), append(ev.Name, "################"...), append(ev.Data, "################"...)
				got = append(got, event{string(ev.ID), string(ev.Name), string(ev.Data), ev.HasID, ev.Retry})
			}); err != nil {
				t.Fatal(err)
			}
		}
		if !equalEvents(got, want.events) {
			t.Fatalf("cut at %d: %+v, want %+v", i, got, want.events)
		}
	}
}

// Goal: any bytes, cut anywhere, give what the standard says of the whole.
// Method: the reference of this test package; cuts are taken from a second byte
// string as piece lengths.
func FuzzParser(f *testing.F) {
	for _, tt := range streams {
		f.Add([]byte(tt.in), []byte{1, 0, 7}, uint16(0))
	}
	f.Add([]byte("data: abcdefgh\r\n\r\n: ccccccccccccccc\ndata: abcdefghi\n\n"), []byte{3}, uint16(15))
	f.Fuzz(func(t *testing.T, in, lengths []byte, eventBytesMax uint16) {
		if eventBytesMax > 0 && eventBytesMax < 3 {
			eventBytesMax = 3 // a BOM in the making is not counted until it proves to be none
		}
		var pieces [][]byte
		rest := in
		for i := 0; i < len(lengths) && len(rest) > 0; i++ {
			n := min(int(lengths[i]), len(rest))
			pieces = append(pieces, rest[:n])
			rest = rest[n:]
		}
		pieces = append(pieces, rest)
		want := reference(in, int(eventBytesMax))
		if got := feed(&sse.Parser{MaxEventBytes: int(eventBytesMax)}, pieces...); !got.equal(want) {
			t.Fatalf("%q in %q\ngot  %+v\nwant %+v", in, pieces, got, want)
		}
		if got := feed(&sse.Parser{MaxEventBytes: int(eventBytesMax)}, bytes.Clone(in)); !got.equal(want) {
			t.Fatalf("%q whole\ngot  %+v\nwant %+v", in, got, want)
		}
	})
}
