package stream_test

import (
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// Goal: a drain reaches every backend on every loop, once, however often it is asked for, and those of streams that
// come later right after their Start; endless streams end then, with [DONE].
func TestDrain(t *testing.T) {
	const n = 30
	var mu sync.Mutex
	var scripts []*streamtest.Script
	newScript := func() *streamtest.Script {
		s := &streamtest.Script{OnDrain: func(s *streamtest.Script) { s.Send(two); s.End(nil) }}
		mu.Lock()
		defer mu.Unlock()
		scripts = append(scripts, s)
		return s
	}
	r := rigOf(t, 2, newScript, nil)
	var clients []*streamtest.Client
	for range n {
		c := r.TCP("")
		c.Until(head)
		clients = append(clients, c)
	}
	r.Server.Drain()
	r.Server.Drain()
	for i := range r.Pool.Loops() {
		r.On(i, func() {})
	}
	clients = append(clients, r.TCP(""), r.Unix(""))
	for _, c := range clients {
		if got := c.All(); got != head+two+done {
			t.Errorf("got %q", got)
		}
	}
	for _, end := range r.AwaitEnds(n + 2) {
		if end.Cause != nil {
			t.Errorf("end %+v", end)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for _, s := range scripts {
		fdtest.Eventually(t, "Stop", func() bool { return s.Called("stop") == 1 })
		if calls := s.Calls(); !slices.Equal(calls, []string{"start", "drain", "stop"}) {
			t.Errorf("calls %v", calls)
		}
	}
}

// A backend that ends by itself anyway goes on, and is told once.
func TestDrainLeavesOthersAlone(t *testing.T) {
	s := &streamtest.Script{}
	r := rigWith(t, s, nil)
	c := r.TCP("")
	c.Until(head)
	r.Server.Drain()
	fdtest.Eventually(t, "Drain", func() bool { return s.Called("drain") == 1 })
	r.Server.Drain()
	after(t, r, 10*time.Millisecond)
	if n := s.Called("drain"); n != 1 {
		t.Errorf("told %d times", n)
	}
	r.On(0, func() { s.Send(one); s.End(nil) })
	if got := c.All(); got != head+one+done {
		t.Errorf("a stream goes on during a drain: %q", got)
	}
}

// Goal: the walk over all streams survives a backend that ends the others. Method: whoever is told first ends all.
func TestDrainThatEndsOthers(t *testing.T) {
	const n = 50
	var all []*streamtest.Script // loop 0
	newScript := func() *streamtest.Script {
		s := &streamtest.Script{OnDrain: func(me *streamtest.Script) {
			for _, s := range all {
				s.Out.End(nil)
			}
		}}
		all = append(all, s)
		return s
	}
	r := rigOf(t, 1, newScript, nil)
	var clients []*streamtest.Client
	for range n {
		clients = append(clients, r.TCP(""))
	}
	r.Server.Drain()
	for _, c := range clients {
		if got := c.All(); got != head+done {
			t.Errorf("got %q", got)
		}
	}
	r.On(0, func() {
		told := 0
		for _, s := range all {
			told += s.Called("drain")
		}
		if told != 1 {
			t.Errorf("%d backends were told, want the first one only", told)
		}
	})
}

var retryLine = regexp.MustCompile(`^event: error\nretry: (\d+)\ndata: \{"error":\{"message":"the server is shutting down"\}\}\n\n$`)

// Goal: a cut ends all streams with an error event and a `retry:` of its own, not in one instant but over the time
// given, and counts them.
func TestCut(t *testing.T) {
	const n, spread = 60, 600 * time.Millisecond
	var mu sync.Mutex
	var at []time.Time
	r := rigOf(t, 2, func() *streamtest.Script { return &streamtest.Script{} }, func(c *stream.Config) {
		c.Ended = func(stream.End) {
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Now())
		}
	})
	var clients []*streamtest.Client
	for range n {
		clients = append(clients, r.TCP(""))
	}
	r.Server.Cut(spread)
	retries := map[int]bool{}
	for _, c := range clients {
		body := strings.TrimPrefix(c.All(), head)
		m := retryLine.FindStringSubmatch(body)
		if m == nil {
			t.Fatalf("got %q", body)
		}
		retry, _ := strconv.Atoi(m[1])
		if retry < 1000 || retry > 1000+2*int(spread.Milliseconds())+1 {
			t.Errorf("retry: %d", retry)
		}
		retries[retry] = true
	}
	if len(retries) < n/2 {
		t.Errorf("%d different retry times among %d", len(retries), n)
	}
	for _, end := range r.AwaitEnds(n) {
		if !errors.Is(end.Cause, stream.ErrCut) {
			t.Errorf("end %+v", end)
		}
	}
	if c := r.Server.Counts(); c.Cut != n {
		t.Errorf("%d cut, want %d", c.Cut, n)
	}
	mu.Lock()
	defer mu.Unlock()
	// 12 steps of 50 ms: the last one comes 550 ms after the first at the earliest, and half are over by the middle.
	if whole := at[n-1].Sub(at[0]); whole < spread-100*time.Millisecond {
		t.Errorf("all ended within %v, want them spread over %v", whole, spread)
	}
	for i := range n - n/4 {
		if at[i+n/4].Sub(at[i]) < 50*time.Millisecond {
			t.Errorf("%d streams ended within %v", n/4, at[i+n/4].Sub(at[i]))
		}
	}
}

// Goal: a second cut with less time overtakes the first; what comes after it is refused, and a stream that has ended
// by itself is not counted.
func TestCutAgain(t *testing.T) {
	const n = 20
	var first *streamtest.Script
	newScript := func() *streamtest.Script {
		s := &streamtest.Script{}
		if first == nil {
			first = s
		}
		return s
	}
	r := rigOf(t, 1, newScript, nil)
	var clients []*streamtest.Client
	for range n {
		clients = append(clients, r.TCP(""))
	}
	r.On(0, func() { first.End(nil) })
	if got := clients[0].All(); got != head+done {
		t.Errorf("got %q", got)
	}
	r.Server.Cut(time.Hour)
	r.Server.Cut(0)
	for _, c := range clients[1:] {
		if body := strings.TrimPrefix(c.All(), head); !retryLine.MatchString(body) {
			t.Errorf("got %q", body)
		}
	}
	r.AwaitEnds(n)
	if c := r.Server.Counts(); c.Cut != n-1 {
		t.Errorf("%d cut, want %d", c.Cut, n-1)
	}
	checkRefusal(t, r.TCP(corsPayload).All(), 503, "shutting down", "1")
}

// Goal: many backends are told within a second, yet not all in one turn. 600 are three shares, in three ticks.
func TestDrainLeavesTheLoopFree(t *testing.T) {
	const n = 600
	turns := map[time.Duration]int{} // told, by turn; loop 0
	newScript := func() *streamtest.Script {
		return &streamtest.Script{OnDrain: func(s *streamtest.Script) { turns[s.Out.Now()]++; s.End(nil) }}
	}
	r := rigOf(t, 1, newScript, func(c *stream.Config) { c.Conn.LingerTimeout = 10 * time.Millisecond })
	for range n {
		r.Unix("")
	}
	r.Server.Drain()
	r.AwaitEnds(n)
	r.On(0, func() {
		for at, told := range turns {
			if told > 256 {
				t.Errorf("%d were told in one turn (%v)", told, at)
			}
		}
	})
	after(t, r, 2*loop.TickLength)
}
