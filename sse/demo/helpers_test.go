package demo_test

import (
	"testing"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream/streamtest"
)

// timer fires a channel.
type timer struct {
	loop.Timer
	fired chan struct{}
}

func (f *timer) Fire()        { close(f.fired) }
func (f *timer) Failed(error) {}

// tick waits until a timer armed for now has fired on loop 0: every timer due before has, too.
func tick(t *testing.T, r *streamtest.Rig) {
	t.Helper()
	f := &timer{fired: make(chan struct{})}
	f.Firer = f
	l := r.Pool.Loops()[0]
	r.On(0, func() { l.Arm(&f.Timer, l.Now()) })
	select {
	case <-f.fired:
	case <-time.After(streamtest.Patience):
		t.Fatal("waited in vain for a timer")
	}
}
