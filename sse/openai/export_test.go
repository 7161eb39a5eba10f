package openai

import (
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse/stream"
)

// What the tests outside the package need of its inside.

const DepthMax = depthMax

// Delta is what parseDelta finds, as it stands in the chunk.
type Delta struct{ Content, Refusal, ToolCalls, Finish, Failed []byte }

func ParseDelta(chunk []byte) (Delta, error) {
	d, err := parseDelta(chunk)
	return Delta{d.content, d.refusal, d.toolCalls, d.finish, d.failed}, err
}

var (
	AppendObject     = appendObject
	IsEventStream    = isEventStream
	ErrorCode        = errorCode
	RefusalForStatus = refusalForStatus
)

func ParseRetryAfter(v string, now time.Time) time.Duration { return parseRetryAfter(v, now) }

// Valid scans a JSON text.
func Valid(b []byte) bool {
	s := scanner{b: b}
	s.value()
	return s.end()
}

// RequestBody is the body that a backend with these options asks its upstream with.
func RequestBody(o Options, payload []byte) ([]byte, error) {
	ready, _, err := o.Profile.prepare()
	if err != nil {
		return nil, err
	}
	p, err := fdrecv.ParsePayload(payload)
	if err != nil {
		return nil, err
	}
	a, err := readPayload(&p)
	if err != nil {
		return nil, err
	}
	return ready.body(&p, &a)
}

// Endpoint is where a profile goes.
func Endpoint(p Profile) (authority string, path string, err error) {
	to, path, err := p.endpoint()
	return to.Host, path, err
}

var _ stream.Backend = (*relay)(nil)
