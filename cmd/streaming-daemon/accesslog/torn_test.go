package accesslog_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"streaming-daemon-go/cmd/streaming-daemon/accesslog"
)

// short is a disk that fills up in the middle of a line, and has room again later.
type short struct {
	room  int
	wrote strings.Builder
}

func (s *short) Write(b []byte) (int, error) {
	n := min(len(b), s.room)
	s.wrote.Write(b[:n])
	s.room -= n
	if n < len(b) {
		return n, errors.New("no room")
	}
	return n, nil
}

// Goal: when a write ends within a line, that one is lost, and the next one begins on a line of its own.
func TestTornLine(t *testing.T) {
	var dropped atomic.Uint64
	out := &short{room: 25}
	w := accesslog.NewWriter(accesslog.Config{Dropped: &dropped, Log: slog.New(slog.DiscardHandler)}, out)
	w.Write([]byte("0123456789\n0123456789\n0123456789\n0123456789\n"))
	if dropped.Load() != 2 {
		t.Errorf("%d lost, want 2", dropped.Load())
	}
	w.Write([]byte("abc\n")) // still no room: lost, and not counted twice
	if dropped.Load() != 3 {
		t.Errorf("%d lost, want 3", dropped.Load())
	}
	out.room = 100
	w.Write([]byte("def\n"))
	w.Write([]byte("ghi\n"))
	if got, want := out.wrote.String(), "0123456789\n0123456789\n012\ndef\nghi\n"; got != want || dropped.Load() != 3 {
		t.Errorf("%q, want %q; %d lost", got, want, dropped.Load())
	}
}
