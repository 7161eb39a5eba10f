package main_test

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai"
)

// Goal: the end of the backend, which comes before that of the loops, leaves nothing of what it kept for another
// completion: neither a descriptor nor a goroutine, at either end. Method: over each transport completions that are whole,
// a drain, and an account of what is open, taken before the first of them and after the close while the loops still turn.
func TestCloseLeavesNothingIdle(t *testing.T) {
	for _, to := range append([]route{{name: "h1 over TLS", scheme: mock.Secure, noH2: true, major: 1}}, routes...) {
		t.Run(to.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			r := newRig(t, to, openai.Options{})
			fds, goroutines := len(fdtest.OpenFDs(t)), runtime.NumGoroutine()
			script := mock.Script{Events: 3}
			for range 3 {
				if _, body := r.ask(payload(t, script)); !strings.HasSuffix(body, "data: [DONE]\n\n") {
					t.Fatalf("no whole completion: %q", body)
				}
			}
			fdtest.Eventually(t, "an idle connection", func() bool {
				c := r.backend.Counts().Upstream
				return c.Calls == 0 && c.Idle > 0 && c.Idle == c.Open
			})
			r.server.Drain()
			r.quiet()
			if r.mock.Stats().Connections == 0 {
				t.Error("the upstream has no connection: there was nothing to close")
			}
			r.backend.Close()
			fdtest.Eventually(t, "the connections to go", func() bool {
				c := r.backend.Counts().Upstream
				return c.Open == 0 && c.Idle == 0 && r.mock.Stats().Connections == 0
			})
			fdtest.Eventually(t, "descriptors and goroutines to be those from before", func() bool {
				return len(fdtest.OpenFDs(t)) == fds && runtime.NumGoroutine() <= goroutines
			})
			done := make(chan struct{})
			if err := r.pool.Loops()[0].Post(func() { close(done) }); err != nil {
				t.Fatalf("the loops have ended as well: %v", err)
			}
			select {
			case <-done:
			case <-time.After(patience):
				t.Error("the loops do not turn any more")
			}
		})
	}
}
