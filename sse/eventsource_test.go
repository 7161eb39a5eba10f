package sse_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"streaming-daemon-go/sse"
)

// recordedVector is a stream and what EventSource in a browser made of it. A
// piece has a byte in each character.
type recordedVector struct {
	Name   string   `json:"name"`
	Pieces []string `json:"pieces"`
	Events []struct {
		Type        string `json:"type"`
		Data        string `json:"data"`
		LastEventID string `json:"last_event_id"`
	} `json:"events"`
	LastEventID string `json:"last_event_id"` // the header with which it came back after the end
	RetryMS     int    `json:"retry_ms"`      // after so long
}

// differsInRetry are the streams in which the parser's Retry is not the
// browser's reconnection time, with the reason.
var differsInRetry = map[string]struct {
	ours time.Duration
	why  string
}{
	"retry of an unfinished block": {0, "it counts from its block's blank line on, as the id does"},
	"an empty retry":               {500 * time.Millisecond, "it is ignored; Chromium goes back to its own"},
	"a retry beyond all numbers":   {longestRetry, "it is the longest that can be; Chromium goes back to its own"},
}

const longestRetry = time.Duration(1<<63-1) / time.Millisecond * time.Millisecond

// Goal: the parser sees in a stream what a browser sees. Method: the streams
// and what Chromium's EventSource reported of them are in testdata; each is
// parsed in the pieces in which the browser got it, whole, and byte by byte.
// Two things of the browser's are done to the outcome here, as the parser leaves
// them to who reads: bytes that are no UTF-8 become U+FFFD, and HTTP takes the
// spaces off the ends of the Last-Event-ID field.
func TestParserAgreesWithEventSource(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "eventsource.json"))
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		DefaultRetryMS int              `json:"default_retry_ms"`
		Vectors        []recordedVector `json:"vectors"`
	}
	if err := json.Unmarshal(b, &recorded); err != nil {
		t.Fatal(err)
	}
	if len(recorded.Vectors) < 60 {
		t.Fatalf("only %d streams", len(recorded.Vectors))
	}
	differ := 0
	for _, v := range recorded.Vectors {
		var want []event
		for _, e := range v.Events {
			if e.Type == "message" {
				e.Type = ""
			}
			want = append(want, event{ID: e.LastEventID, Name: e.Type, Data: e.Data})
		}
		wantRetry := time.Duration(v.RetryMS) * time.Millisecond
		if v.RetryMS == recorded.DefaultRetryMS {
			wantRetry = 0
		}
		if d, ok := differsInRetry[v.Name]; ok {
			if differ++; d.ours == wantRetry {
				t.Errorf("%s: no difference any more (%s)", v.Name, d.why)
			}
			wantRetry = d.ours
		}
		var pieces, bytewise [][]byte
		for _, p := range v.Pieces {
			piece := recordedBytes(p)
			pieces = append(pieces, piece)
			for i := range piece {
				bytewise = append(bytewise, piece[i:i+1])
			}
		}
		for how, cut := range map[string][][]byte{"in pieces": pieces, "whole": {slices.Concat(pieces...)}, "byte by byte": bytewise} {
			got := feed(&sse.Parser{}, cut...)
			for i := range got.events {
				e := &got.events[i]
				*e = event{ID: decoded(e.ID), Name: decoded(e.Name), Data: decoded(e.Data)}
				if e.Name == "message" {
					e.Name = "" // EventSource calls an event without a name so
				}
			}
			if !equalEvents(got.events, want) || strings.TrimSpace(decoded(got.lastEventID)) != v.LastEventID ||
				got.retry != wantRetry || got.err != nil {
				t.Errorf("%s, %s:\ngot  %+v\nwant %+v, last event ID %q, retry %v", v.Name, how, got, want, v.LastEventID, wantRetry)
			}
		}
	}
	if differ != len(differsInRetry) {
		t.Errorf("%d known differences in the streams, %d in the table", differ, len(differsInRetry))
	}
}

// recordedBytes turns each character back into a byte.
func recordedBytes(text string) []byte {
	b := make([]byte, 0, len(text))
	for _, r := range text {
		b = append(b, byte(r))
	}
	return b
}

// decoded is what a browser's UTF-8 decoder makes of s: each longest run of
// bytes that begins a character and is cut short becomes one U+FFFD, as does
// every other byte that is none (Encoding standard, 4.1).
func decoded(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			for n < len(s) && !utf8.FullRuneInString(s[:n+1]) {
				n++
			}
		}
		b.WriteRune(r)
		s = s[n:]
	}
	return b.String()
}
