package stream

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
)

// Backend makes the events of one stream. Every method is called on that stream's loop, never from inside a method
// of the Stream, and must not block: a backend that waits for something does so on the loop (loop.Source, WakeAt) or
// on a bounded number of goroutines that come back with Loop.Post. A panic ends this stream only. After End, and once
// the stream is over for another reason, Stop is the only call that still comes.
type Backend interface {
	// Start begins. What it sends leaves with the head. An error refuses the client: a *Refusal says with what status,
	// fdrecv.ErrMalformed is a 400, anything else a 500. Stop is not called after an error.
	Start(p fdrecv.Payload, out *Stream) error
	// Wake: the time given to WakeAt has come; due is that time, and Now is at or after it.
	Wake(due time.Duration)
	// Pause: too much waits for this client. A backend that sends on all the same is not stopped, but its client may
	// be evicted. A timer that is set still wakes it.
	Pause()
	// Resume: the client has caught up. Every Pause is followed by it or by Stop.
	Resume()
	// Drain, at most once: the server ends once its streams have ended. A stream that never ends by itself does so
	// now.
	Drain()
	// Stop is the last call, exactly once: what End was given (nil: by itself), else why the stream is over (the
	// client is gone, a deadline, the end of a drain, a panic in any method, Start included). After an End(nil) whose
	// last bytes failed at once it is that failure. Nothing can be sent any more.
	Stop(cause error)
}

// Maker makes the backend of one stream. It is called on the loop that the stream will live on.
type Maker func(l *loop.Loop) Backend

// Causes of an end beside those of package conn.
var (
	ErrDeadline = errors.New("stream: -max-stream-duration is over")
	ErrCut      = errors.New("stream: still open at the end of the drain")
	ErrPanic    = errors.New("stream: panic in the backend")
	ErrBackend  = errors.New("stream: backend failed")
)

// ErrFull is why a client past -max-connections is refused.
var ErrFull = errors.New("stream: too many streams are open")

// Refusal is an error of Start (or of End before anything was sent) that says what the client is told. Once the head
// is out, Message and RetryAfter still reach the client, in the error event.
type Refusal struct {
	Status     int           // 400 to 599
	Message    string        // for the client: no secrets
	RetryAfter time.Duration // 0: no Retry-After
}

func (r *Refusal) Error() string {
	return "stream: refused: " + http.StatusText(r.Status) + ": " + r.Message
}

// refusalFor is what the client is told of err.
func refusalFor(err error) Refusal {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return *r
	case errors.Is(err, fdrecv.ErrTooLarge):
		return Refusal{Status: http.StatusRequestEntityTooLarge, Message: "the handoff payload is too large"}
	case errors.Is(err, fdrecv.ErrTimeout):
		return Refusal{Status: http.StatusRequestTimeout, Message: "the handoff payload did not arrive in time"}
	case errors.Is(err, fdrecv.ErrMalformed):
		return Refusal{Status: http.StatusBadRequest, Message: strings.TrimPrefix(err.Error(), "fdrecv: ")}
	case errors.Is(err, fdrecv.ErrBroken), errors.Is(err, fdrecv.ErrExtraFD), errors.Is(err, fdrecv.ErrTruncatedControl):
		return Refusal{Status: http.StatusBadRequest, Message: "the handoff was broken"}
	case errors.Is(err, fdrecv.ErrClosed), errors.Is(err, ErrCut):
		return Refusal{Status: http.StatusServiceUnavailable, Message: "the server is shutting down", RetryAfter: time.Second}
	case errors.Is(err, ErrDeadline): // with the head held back all the time
		return Refusal{Status: http.StatusGatewayTimeout, Message: endText(err)}
	case errors.Is(err, ErrBackend):
		return Refusal{Status: http.StatusBadGateway, Message: endText(err)}
	default:
		return Refusal{Status: http.StatusInternalServerError, Message: "internal error"}
	}
}

// endText is what the client reads in the error event of a stream that began.
func endText(err error) string {
	var r *Refusal
	switch {
	case errors.As(err, &r):
		return r.Message
	case errors.Is(err, ErrDeadline):
		return "the stream reached its maximum duration"
	case errors.Is(err, ErrCut):
		return "the server is shutting down"
	case errors.Is(err, ErrBackend):
		return "the backend failed"
	default:
		return "internal error"
	}
}
