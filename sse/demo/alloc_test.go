package demo_test

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/demo"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// meter is a kernel that takes every byte and reads the count of allocations after some of the events, and after some
// more. Between them only the loop runs: the test waits on done.
type meter struct {
	streamtest.Kernel
	from, to int // events
	events   int // written; how many leave in one write depends on how late the loop is
	at       [2]runtime.MemStats
	first    sync.Once
	last     sync.Once
	done     chan struct{}
}

var blankLine = []byte("\n\n")

func (m *meter) Send(_ int, b []byte) (int, error) {
	m.events += bytes.Count(b, blankLine)
	if m.events >= m.from {
		m.first.Do(func() { runtime.ReadMemStats(&m.at[0]) })
	}
	if m.events >= m.to {
		m.last.Do(func() { runtime.ReadMemStats(&m.at[1]); close(m.done) })
	}
	return len(b), nil
}

func (m *meter) Sendv(_ int, pieces [][]byte) (n int, err error) {
	for _, p := range pieces[:min(len(pieces), loop.SendvMax)] {
		n += len(p)
		_, _ = m.Send(0, p)
	}
	return n, nil
}

// Goal: an event allocates nothing, its timer and its write included.
func TestNoAllocationPerEvent(t *testing.T) {
	tests := map[string]demo.Options{
		"messages": {Delay: time.Millisecond, Messages: 1000},
		"words":    {Delay: time.Millisecond},
	}
	for name, o := range tests {
		t.Run(name, func(t *testing.T) {
			m := &meter{from: 10, to: 35, done: make(chan struct{})}
			r := rig(t, 1, o, func(c *stream.Config) {
				c.Conn.Kernel, c.HeartbeatInterval, c.MaxStreamDuration = m, time.Hour, time.Hour
			})
			c := r.Unix(fmt.Sprintf(`{"prompt":%q}`, strings.Repeat("x ", 50)))
			select {
			case <-m.done:
			case <-time.After(streamtest.Patience):
				t.Fatal("waited in vain for the events")
			}
			// A stray allocation of the runtime or of the test's own select is no event's.
			if n := m.at[1].Mallocs - m.at[0].Mallocs; n > uint64(m.to-m.from)/4 {
				t.Errorf("%d allocations for %d events", n, m.to-m.from)
			}
			_ = c.Close()
		})
	}
}
