package main

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse/stream"
)

// The words are an interface: who counts them in a log must not lose one to a cause that is wrapped.
func TestEndWords(t *testing.T) {
	for _, tt := range []struct {
		cause error
		want  string
	}{
		{nil, "complete"},
		{conn.ErrHangup, "client_gone"},
		{conn.ErrWriteTimeout, "write_timeout"},
		{conn.ErrEvicted, "evicted"},
		{conn.ErrInput, "client_input"},
		{stream.ErrDeadline, "deadline"},
		{stream.ErrCut, "drain"},
		{conn.ErrPanic, "panic"},
		{stream.ErrPanic, "panic"},
		{&stream.Refusal{Status: 422}, "refused"},
		{&stream.Refusal{Status: 429}, "backend_failed"},
		{&stream.Refusal{Status: 502}, "backend_failed"},
		{fdrecv.ErrMalformed, "refused"},
		{stream.ErrBackend, "backend_failed"},
		{unix.ENETUNREACH, "network"},
		{errors.New("x"), "failed"},
	} {
		if got := endWord(tt.cause); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.cause, got, tt.want)
		}
		if tt.cause != nil {
			if got := endWord(fmt.Errorf("wrapped: %w", tt.cause)); got != tt.want {
				t.Errorf("%v, wrapped: %s, want %s", tt.cause, got, tt.want)
			}
		}
	}
}
