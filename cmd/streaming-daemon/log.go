package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/escape"
)

// linesQueued is how many log lines may wait for a slow reader of stderr. Past it they are dropped and counted.
const linesQueued = 1024

// closeWait is how long the end of the process waits for such a reader.
const closeWait = time.Second

// lineWriter takes log lines without ever blocking: loops log through it, and a full pipe must not stop them. Any
// goroutine.
type lineWriter struct {
	lines   chan []byte
	dropped atomic.Uint64
	done    chan struct{}
}

// newLineWriter starts the goroutine that writes to out. End it with close.
func newLineWriter(out io.Writer) *lineWriter {
	w := &lineWriter{lines: make(chan []byte, linesQueued), done: make(chan struct{})}
	go w.run(out)
	return w
}

// Write queues one line. It never fails: there is nobody to be told.
func (w *lineWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- bytes.Clone(line):
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

func (w *lineWriter) run(out io.Writer) {
	defer close(w.done)
	for line := range w.lines {
		if line == nil {
			return
		}
		_, _ = out.Write(line) // a reader that is gone (EPIPE, a full disk) costs the line, not the daemon
		if n := w.dropped.Swap(0); n > 0 {
			fmt.Fprintf(out, "streaming-daemon: %d log lines were dropped: stderr is read too slowly\n", n)
		}
	}
}

// close writes what is queued, for a bounded time. Lines that come later are dropped.
func (w *lineWriter) close() {
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	select {
	case w.lines <- nil:
	case <-timeout.C:
		return
	}
	select {
	case <-w.done:
	case <-timeout.C:
	}
}

// logging is what can change of the logger while it is used. Any goroutine.
type logging struct {
	level slog.LevelVar
	json  atomic.Bool
}

func (l *logging) set(level slog.Level, format string) {
	l.level.Set(level)
	l.json.Store(format == "json")
}

// newLogger makes the process's logger. What it prints is escaped, so a payload can neither forge a line nor command a
// terminal.
func newLogger(w io.Writer, level slog.Level, format string) (*slog.Logger, *logging) {
	l := &logging{}
	l.set(level, format)
	options := &slog.HandlerOptions{Level: &l.level}
	return slog.New(eitherHandler{l, slog.NewTextHandler(w, options), slog.NewJSONHandler(escape.JSONWriter{To: w}, options)}), l
}

// eitherHandler writes in the format that is asked for at the time.
type eitherHandler struct {
	logging    *logging
	text, json slog.Handler
}

func (h eitherHandler) now() slog.Handler {
	if h.logging.json.Load() {
		return h.json
	}
	return h.text
}

func (h eitherHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.now().Enabled(ctx, level)
}
func (h eitherHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.now().Handle(ctx, r)
}
func (h eitherHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return eitherHandler{h.logging, h.text.WithAttrs(attrs), h.json.WithAttrs(attrs)}
}
func (h eitherHandler) WithGroup(name string) slog.Handler {
	return eitherHandler{h.logging, h.text.WithGroup(name), h.json.WithGroup(name)}
}
