package stream

import (
	"fmt"
	"net/http"
	"time"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/sse"
)

var (
	doneEvent        = []byte(sse.Done)
	heartbeatComment = []byte(sse.Heartbeat)
)

// encoder encodes what a refused client reads; bodyOnly: somebody else has sent the head.
type encoder func(dst []byte, r Refusal, headers []sse.Header, bodyOnly bool) []byte

// appendRefusal encodes what a refused client reads: an HTTP response, or, where somebody else has sent the head
// already, an event.
func appendRefusal(dst []byte, r Refusal, headers []sse.Header, bodyOnly bool) []byte {
	if bodyOnly {
		return sse.AppendError(dst, r.Message, r.RetryAfter)
	}
	return sse.AppendRejection(dst, r.Status, seconds(r.RetryAfter), headers, r.Message)
}

// appendOverloaded encodes the answer that brings an EventSource back later: a status other than 200 would end it for
// good (HTML standard, 9.2.2 "Processing model").
func appendOverloaded(dst []byte, r Refusal, headers []sse.Header, bodyOnly bool) []byte {
	if !bodyOnly {
		dst = sse.AppendHead(dst, headers)
	}
	return sse.AppendEvent(dst, sse.Event{
		Name:  []byte("overloaded"),
		Retry: r.RetryAfter,
		Data:  fmt.Appendf(nil, `{"error":{"status":%d,"message":%s}}`, r.Status, sse.AppendJSONString(nil, r.Message)),
	})
}

// seconds rounds up: a client that comes back a moment early is refused again.
func seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// overloaded is the refusal of a client past -max-connections.
func (c *Config) overloaded() Refusal {
	return Refusal{Status: http.StatusServiceUnavailable, Message: "too many streams are open", RetryAfter: c.RetryAfter}
}

// rejection is a client that is refused without a stream: its answer is written and it is let go like any other, so
// that it can read it.
type rejection struct {
	conn     conn.Conn
	shard    *shard
	cause    error         // why
	accepted time.Duration // loop clock
	access   *Access       // nil: nobody asks
	headSent bool          // by somebody else
}

// rejecting is what a client is refused with, and why.
type rejecting struct {
	cause   error
	refusal Refusal
	encode  encoder
	status  int // of the response head, where that is not the refusal's; 0: it is
}

func (r *rejection) Paused()     {}
func (r *rejection) Resumed()    {}
func (r *rejection) Ended(error) { r.tell() }
func (r *rejection) Released()   { r.shard.server.rejecting.Add(-1) }

// tell reports the end of the rejection.
func (r *rejection) tell() {
	f := r.shard.cfg.Rejected
	if f == nil {
		return
	}
	e := End{Duration: r.shard.loop.Clock() - r.accepted, Bytes: r.conn.Sent(), Cause: r.cause, Access: r.access}
	if e.Access != nil && e.Bytes > 0 {
		e.Access.FirstByte = e.Duration // an answer is one write, unless its client is very slow
	}
	e.settleStatus(r.headSent)
	f(e)
}
