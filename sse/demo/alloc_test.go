package demo_test

import (
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

// meter is a kernel that takes every byte and reads the count of allocations at two of the writes. Between them only
// the loop runs: the test waits on done.
type meter struct {
	streamtest.Kernel
	from, to int // writes
	writes   int
	at       [2]runtime.MemStats
	once     sync.Once
	done     chan struct{}
}

func (m *meter) Send(_ int, b []byte) (int, error) {
	m.writes++
	switch m.writes {
	case m.from:
		runtime.ReadMemStats(&m.at[0])
	case m.to:
		runtime.ReadMemStats(&m.at[1])
		m.once.Do(func() { close(m.done) })
	}
	return len(b), nil
}

func (m *meter) Sendv(_ int, pieces [][]byte) (int, error) {
	n := 0
	for _, p := range pieces[:min(len(pieces), loop.SendvMax)] {
		n += len(p)
	}
	_, err := m.Send(0, make([]byte, 0))
	return n, err
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
