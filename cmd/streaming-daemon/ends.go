package main

import (
	"errors"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/accesslog"
	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse/stream"
)

// endRejected is the word of the access log for a client that got no stream.
const endRejected = "rejected"

// endWord is how a stream ended, in the words of the access log. They are an interface, as the metrics' labels are.
func endWord(cause error) string {
	var refusal *stream.Refusal
	var errno unix.Errno
	switch {
	case cause == nil:
		return "complete"
	case errors.Is(cause, conn.ErrHangup):
		return "client_gone"
	case errors.Is(cause, conn.ErrWriteTimeout):
		return "write_timeout"
	case errors.Is(cause, conn.ErrEvicted):
		return "evicted"
	case errors.Is(cause, conn.ErrInput):
		return "client_input"
	case errors.Is(cause, stream.ErrDeadline):
		return "deadline"
	case errors.Is(cause, stream.ErrCut):
		return "drain"
	case errors.Is(cause, conn.ErrPanic), errors.Is(cause, stream.ErrPanic):
		return "panic"
	case errors.As(cause, &refusal) && refusal.Status < 500 && refusal.Status != http.StatusTooManyRequests,
		errors.Is(cause, fdrecv.ErrMalformed):
		return "refused" // the request was not right; with another status it is the backend that could not
	case refusal != nil, errors.Is(cause, stream.ErrBackend):
		return "backend_failed"
	case errors.As(cause, &errno):
		return "network"
	default:
		return "failed"
	}
}

// openAccessLog opens what d.cfg asks for; nil: none.
func openAccessLog(d *daemon, path, format string) (*accesslog.Log, error) {
	if path == "" {
		return nil, nil
	}
	return accesslog.Open(accesslog.Config{
		Path: path, Format: accesslog.ParseFormat(format), Dropped: &d.counters.accessLogDropped, Log: d.log,
	})
}

// logAccess is called on a loop.
func (d *daemon) logAccess(e stream.End, word string) {
	log := d.access.Load()
	if log == nil {
		return
	}
	a := e.Access
	if a == nil {
		a = &stream.Access{} // the client came before there was an access log
	}
	entry := accesslog.Entry{
		Start: time.Now().Add(-e.Duration), Client: a.Client, UserID: a.UserID, RequestID: a.RequestID, Backend: a.Backend,
		Status: a.Status, Bytes: e.Bytes, Events: e.Events, FirstByte: a.FirstByte, Duration: e.Duration, End: word,
		UpstreamStatus: a.Upstream.Status, UpstreamFirstByte: a.Upstream.FirstByte, UpstreamDuration: a.Upstream.Duration,
	}
	if e.Access != nil {
		entry.Listener = a.Kind.String()
	}
	if e.Cause != nil {
		entry.Error = e.Cause.Error()
	}
	log.Add(entry)
}

// reopenAccessLog is for who rotates the file.
func (d *daemon) reopenAccessLog() {
	if log := d.access.Load(); log != nil {
		log.Reopen()
		d.log.Info("access log: opening the file again", "path", d.cfg.AccessLog)
	}
}
