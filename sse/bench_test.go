package sse_test

import (
	"bytes"
	"strings"
	"testing"

	"streaming-daemon-go/sse"
)

func BenchmarkAppendHead(b *testing.B) {
	extra := []sse.Header{{Name: "X-Request-Id", Value: "0123456789abcdef"}, {Name: "Access-Control-Allow-Origin", Value: "*"}}
	buf := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		buf = sse.AppendHead(buf[:0], extra)
	}
}

func BenchmarkAppendContent(b *testing.B) {
	for _, bm := range []struct{ name, text string }{
		{"word", " streaming"},
		{"50B", strings.Repeat("x", 50)},
		{"1KiB", strings.Repeat("a line of plain text with a few words, and its end\n", 20)},
		{"1KiB-cjk", strings.Repeat("\u4e16\u754c\u4f60\u597d", 85)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			buf := make([]byte, 0, 8192)
			b.ReportAllocs()
			b.SetBytes(int64(len(bm.text)))
			for b.Loop() {
				buf = sse.AppendContent(buf[:0], bm.text)
			}
		})
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	for _, bm := range []struct {
		name string
		data string
	}{
		{"50B", strings.Repeat("x", 50)},
		{"1KiB-20lines", strings.Repeat("a line of plain text with a few words, and its end\n", 20)},
	} {
		b.Run(bm.name, func(b *testing.B) {
			ev := sse.Event{ID: []byte("12345"), HasID: true, Data: []byte(bm.data)}
			buf := make([]byte, 0, 8192)
			b.ReportAllocs()
			b.SetBytes(int64(len(bm.data)))
			for b.Loop() {
				buf = sse.AppendEvent(buf[:0], ev)
			}
		})
	}
}

// BenchmarkParser: per event, by how the events arrive. "whole" is a piece per
// event, "batch" 64 events in one piece, "cut" two pieces per event.
func BenchmarkParser(b *testing.B) {
	one := sse.AppendContent(nil, strings.Repeat("x", 29)) // 50 bytes on the wire
	crOnly := bytes.ReplaceAll(one, []byte("\n"), []byte("\r"))
	for _, bm := range []struct {
		name   string
		pieces [][]byte
		events int
	}{
		{"whole", [][]byte{one}, 1},
		{"batch", [][]byte{bytes.Repeat(one, 64)}, 64},
		{"batch-CR", [][]byte{bytes.Repeat(crOnly, 64)}, 64},
		{"cut", [][]byte{one[:25], one[25:]}, 1},
	} {
		b.Run(bm.name, func(b *testing.B) {
			var p sse.Parser
			events := 0
			emit := func(sse.Event) { events++ }
			b.ReportAllocs()
			runs := 0
			for b.Loop() {
				for _, piece := range bm.pieces {
					p.Feed(piece, emit)
				}
				runs++
			}
			if events != runs*bm.events {
				b.Fatalf("%d events in %d runs", events, runs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(events), "ns/event")
		})
	}
}
