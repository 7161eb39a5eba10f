package main

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"
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

// newLogger makes the process's logger. Its handlers escape what they print, so a payload cannot forge a line.
func newLogger(w io.Writer, level slog.Level, format string) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
