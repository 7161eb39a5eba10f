package sse_test

import (
	"strings"
	"testing"
	"time"
	"unsafe"

	"streaming-daemon-go/sse"
)

// Goal: the hot path allocates nothing once its buffers have grown.
func TestAllocs(t *testing.T) {
	const text = "two lines\n\"quoted\" \u4e16\u2028 \xff"
	ev := sse.Event{ID: []byte("7"), HasID: true, Name: []byte("tick"), Data: []byte("a\r\nb\rc\n"), Retry: time.Second}
	extra := []sse.Header{{Name: "X-Request-Id", Value: "7"}, {Name: "bad name", Value: "x"}, {Name: "Connection", Value: "x"}}
	buf := make([]byte, 0, 4096)
	var p sse.Parser
	emitted := 0
	emit := func(sse.Event) { emitted++ }
	whole := []byte("id: 8\nevent: tick\ndata: one\n\n: c\r\n\r\ndata: a\ndata: b\n\n")
	large := []byte("data: " + strings.Repeat("x", 8<<10) + "\ndata: y\n\n")

	for _, tt := range []struct {
		name string
		f    func()
	}{
		{"AppendHead", func() { sse.AppendHead(buf, extra) }},
		{"AppendRejection", func() { sse.AppendRejection(buf, 503, 5, extra, text) }},
		{"AppendEvent", func() { sse.AppendEvent(buf, ev) }},
		{"AppendComment", func() { sse.AppendComment(buf, text) }},
		{"AppendContent", func() { sse.AppendContent(buf, text) }},
		{"AppendError", func() { sse.AppendError(buf, text, time.Second) }},
		{"CheckHeader", func() { sse.CheckHeader(extra[0]) }},
		{"ParseHead", func() { sse.ParseHead([]byte("HTTP/1.1 200 OK\r\n\r\n")) }},
		{"Feed whole blocks", func() { p.Feed(whole, emit) }},
		{"Feed cut blocks", func() { p.Feed(whole[:20], emit); p.Feed(whole[20:45], emit); p.Feed(whole[45:], emit) }},
		{"Feed cut large blocks", func() { p.Feed(large[:4000], emit); p.Feed(large[4000:], emit) }},
		{"Reset and Feed", func() { p.Reset(); p.Feed(whole[:20], emit); p.Feed(whole[20:], emit) }},
	} {
		tt.f() // buffers grow
		if n := testing.AllocsPerRun(100, tt.f); n != 0 {
			t.Errorf("%s: %v allocations", tt.name, n)
		}
	}
	if emitted == 0 {
		t.Error("nothing was emitted: the parser rows measured nothing")
	}
}

// Goal: one parser per stream is cheap in a process with tens of thousands of
// streams: small itself, and without a buffer while pieces end at block ends.
func TestParserSize(t *testing.T) {
	if n := unsafe.Sizeof(sse.Parser{}); n > 96 {
		t.Errorf("a Parser has %d bytes, its documentation says 96", n)
	}
	in := []byte("event: e\ndata: one\n\n: heartbeat\n\ndata: two\r\n\r\n")
	emitted := 0
	emit := func(ev sse.Event) {
		emitted++
		if start := uintptr(unsafe.Pointer(&in[0])); uintptr(unsafe.Pointer(&ev.Data[0]))-start >= uintptr(len(in)) {
			t.Errorf("%q was copied", ev.Data)
		}
	}
	parsers := make([]sse.Parser, 102) // AllocsPerRun calls once more to warm up
	i := 0
	if n := testing.AllocsPerRun(100, func() { parsers[i].Feed(in, emit); i++ }); n != 0 {
		t.Errorf("a fresh parser allocates %v times for whole blocks", n)
	}
	if emitted != 2*i {
		t.Errorf("%d events from %d streams", emitted, i)
	}
}

// Goal: one large event does not cost its memory until the stream ends. Method:
// the next event that needs the same buffers has to allocate them anew.
func TestParserGivesLargeBuffersBack(t *testing.T) {
	long := "data: " + strings.Repeat("x", 500<<10) + "\n"
	for _, tt := range []struct {
		name   string
		pieces []string
	}{
		{"held", []string{long[:100], long[100:] + "\n"}},
		{"joined", []string{long + "data: y\n\n"}},
	} {
		var pieces [][]byte
		for _, piece := range tt.pieces {
			pieces = append(pieces, []byte(piece))
		}
		var p sse.Parser
		emitted := 0
		emit := func(sse.Event) { emitted++ }
		n := testing.AllocsPerRun(5, func() {
			for _, piece := range pieces {
				p.Feed(piece, emit)
			}
		})
		if n == 0 {
			t.Errorf("%s: no allocation: a buffer of 500 KiB was kept", tt.name)
		}
		if emitted != 6 {
			t.Errorf("%s: %d events", tt.name, emitted)
		}
	}
}
