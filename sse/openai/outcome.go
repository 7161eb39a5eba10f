package openai

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/stream"
)

// Reason says how a completion ended. It is the closed set of values of a metric's label.
type Reason uint8

// The reasons. All but None, Canceled and BadPayload are failures of the upstream, or of the way there.
const (
	None             Reason = iota // it was relayed to its end
	Canceled                       // the client left, or the stream ended for another reason that is not the upstream's
	BadPayload                     // refused before the upstream was asked
	Limit                          // past -max-upstream-streams
	Resolve                        // the upstream's name
	Connect                        // no connection
	ConnectTimeout                 // no connection in time
	TLS                            // the handshake failed
	FirstByteTimeout               // no byte of the body in time
	IdleTimeout                    // no byte for too long, after the first
	TotalTimeout                   // the completion took too long
	Broken                         // the connection broke, or the upstream refused the call on it
	Protocol                       // not HTTP, not an event stream, or not chat completion chunks
	RateLimited                    // status 429
	Status                         // any other status but 200
	Reported                       // the upstream reported an error within the stream
	Cut                            // the response ended, but not the completion
	Internal                       // our fault

	// NumReasons is how many there are; it is not a reason.
	NumReasons
)

var reasonLabels = [NumReasons]string{"none", "canceled", "bad_payload", "limit", "resolve", "connect", "connect_timeout", "tls",
	"first_byte_timeout", "idle_timeout", "total_timeout", "broken", "protocol", "rate_limited", "status", "reported", "cut",
	"internal"}

// String is the label's value.
func (r Reason) String() string {
	if r >= NumReasons {
		r = Internal
	}
	return reasonLabels[r]
}

// End is how a completion ended.
type End struct {
	Reason    Reason
	Status    int           // of the upstream's response; 0: none came
	Duration  time.Duration // of the request
	FirstByte time.Duration // to the first byte of the body; 0: none came
	Contents  int           // pieces of text relayed; one is about a token
}

// reasonOf reads an upstream.Receiver's failure.
func reasonOf(err error) Reason {
	for _, known := range []struct {
		err    error
		reason Reason
	}{
		{upstream.ErrResolve, Resolve},
		{upstream.ErrConnectTimeout, ConnectTimeout},
		{upstream.ErrConnect, Connect},
		{upstream.ErrTLS, TLS},
		{upstream.ErrBroken, Broken},
		{upstream.ErrRefused, Broken},
		{upstream.ErrProtocol, Protocol},
		{upstream.ErrClosed, Canceled},
	} {
		if errors.Is(err, known.err) {
			return known.reason
		}
	}
	return Internal
}

// refusals are what a client is told: as a status, or as the text of the error event when its head is out.
var refusals = [NumReasons]stream.Refusal{
	Canceled:         {Status: http.StatusServiceUnavailable, Message: "the server is shutting down", RetryAfter: time.Second},
	Limit:            {Status: http.StatusServiceUnavailable, Message: "too many completions are under way", RetryAfter: time.Second},
	Resolve:          {Status: http.StatusBadGateway, Message: "the upstream was not found"},
	Connect:          {Status: http.StatusBadGateway, Message: "the upstream cannot be reached"},
	ConnectTimeout:   {Status: http.StatusGatewayTimeout, Message: "the upstream did not accept a connection in time"},
	TLS:              {Status: http.StatusBadGateway, Message: "no secure connection to the upstream"},
	FirstByteTimeout: {Status: http.StatusGatewayTimeout, Message: "the upstream did not answer in time"},
	IdleTimeout:      {Status: http.StatusGatewayTimeout, Message: "the upstream stopped sending"},
	TotalTimeout:     {Status: http.StatusGatewayTimeout, Message: "the completion took too long"},
	Broken:           {Status: http.StatusBadGateway, Message: "the connection to the upstream broke"},
	Protocol:         {Status: http.StatusBadGateway, Message: "the upstream's answer was not understood"},
	RateLimited:      {Status: http.StatusTooManyRequests, Message: "the upstream's rate limit was reached"},
	Status:           {Status: http.StatusBadGateway, Message: "the upstream refused the request"},
	Reported:         {Status: http.StatusBadGateway, Message: "the upstream reported an error"},
	Cut:              {Status: http.StatusBadGateway, Message: "the upstream ended before the completion did"},
	Internal:         {Status: http.StatusInternalServerError, Message: "internal error"},
}

// refusal is what a client is told for a reason.
func (r Reason) refusal() *stream.Refusal {
	told := refusals[r]
	return &told
}

// refusalForStatus is what a client is told of a status other than 200. code is the upstream's word for it, "" for none.
func refusalForStatus(status int, code string, retryAfter time.Duration) *stream.Refusal {
	reason := reasonForStatus(status)
	told := reason.refusal()
	switch status {
	case http.StatusTooManyRequests:
		told.RetryAfter = retryAfter
	case http.StatusServiceUnavailable:
		told.Status, told.RetryAfter = status, retryAfter
	case http.StatusGatewayTimeout:
		told.Status = status
	}
	if reason == Status {
		told.Message += " (status " + strconv.Itoa(status)
		if code != "" {
			told.Message += ", " + code
		}
		told.Message += ")"
	}
	return told
}

func reasonForStatus(status int) Reason {
	if status == http.StatusTooManyRequests {
		return RateLimited
	}
	return Status
}

// retryAfterMax bounds what is passed on of a Retry-After: a bad clock must not keep clients away for good.
const retryAfterMax = time.Hour

// parseRetryAfter reads seconds or a date (RFC 9110, section 10.2.3). 0: none, or past.
func parseRetryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if seconds, err := strconv.ParseUint(v, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, retryAfterMax)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	return min(max(at.Sub(now), 0), retryAfterMax)
}

// errorCode finds the upstream's word for its error, such as "model_not_found", in the body of its answer. Only what
// looks like an identifier is taken: the text beside it may quote the prompt or parts of the key.
func errorCode(body []byte) string {
	var answer struct {
		Error struct {
			Code, Type any
		} `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	for _, v := range []any{answer.Error.Code, answer.Error.Type} {
		if s, ok := v.(string); ok && isIdentifier(s) {
			return s
		}
	}
	return ""
}

func isIdentifier(s string) bool {
	if len(s) == 0 || len(s) > 48 {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz_") == ""
}
