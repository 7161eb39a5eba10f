package stream_test

import (
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/demo"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// Goal: a List says of each stream what is so, and the query's order, filter and limit do what they say. Method: five
// streams on two loops that differ in every field: one holds its head, one sent two events, one waits behind a kernel
// that takes nothing more (paused), one likewise has ended (flushing), one has sent a long event.
func TestList(t *testing.T) {
	const patience = streamtest.Patience
	g := newGate()
	started := make(chan *streamtest.Script, 1)
	start := func(s *streamtest.Script, p fdrecv.Payload) error {
		defer func() { started <- s }()
		switch p.UserID {
		case "holds":
			s.Out.HoldHead()
		case "talks":
			s.Send(one)
			s.Send(two)
		case "shouts":
			s.Send("data: " + strings.Repeat("x", 1000) + "\n\n")
		}
		return nil
	}
	r := rigOf(t, 2, (&streamtest.Script{OnStart: start}).Again, func(c *stream.Config) {
		c.KeepAccess = true
		c.Conn.Kernel = g
		c.Conn.High = 1 << 10
	})
	var scripts []*streamtest.Script
	users := []string{"holds", "talks", "shouts", "waits", "ends"}
	for _, user := range users {
		r.TCP(fmt.Sprintf(`{"user_id":%q,"request_id":"r-%s"}`, user, user))
		scripts = append(scripts, <-started)
	}
	for i := range r.Pool.Loops() {
		r.On(i, func() {}) // what Start sent has left
	}
	g.shut.Store(true)
	big := "data: " + strings.Repeat("y", 2000) + "\n\n"
	for i, user := range users {
		index := scripts[i].Out.Loop().Index()
		switch user {
		case "waits":
			r.On(index, func() { scripts[i].Send(big) })
		case "ends":
			r.On(index, func() { scripts[i].Send("data: tail\n\n"); scripts[i].End(nil) })
		}
	}
	byUser := map[string]stream.Info{}
	all := r.Server.List(stream.Query{Limit: 10}, patience)
	for _, i := range all.Streams {
		byUser[i.UserID] = i
	}
	if all.Matched != len(users) || len(all.Streams) != len(users) || len(byUser) != len(users) || all.Silent != nil {
		t.Fatalf("%+v", all)
	}
	perLoop := map[int]int{}
	for _, want := range []struct {
		user, state string
		bytes       int
		events      uint64
		pending     int
	}{
		{"holds", "held", 0, 0, len(head)},
		{"talks", "open", len(head + one + two), 2, 0},
		{"shouts", "open", len(head) + 1008, 1, 0},
		{"waits", "paused", len(head), 1, len(big)},
		{"ends", "flushing", len(head), 1, len("data: tail\n\n" + done)},
	} {
		i := byUser[want.user]
		perLoop[i.Loop]++
		if i.State != want.state || i.Bytes != uint64(want.bytes) || i.Events != want.events || i.Pending != want.pending ||
			i.RequestID != "r-"+want.user || i.Client.String() != "127.0.0.1:1" ||
			i.Age < i.Idle || i.Idle < 0 || i.Age > patience || !slices.Contains(stream.States, i.State) {
			t.Errorf("want %+v: %+v", want, i)
		}
	}
	if len(perLoop) != 2 {
		t.Errorf("streams by loop: %v", perLoop)
	}
	for _, q := range []struct {
		stream.Query
		first   string // of the answer; "": it is empty
		streams int
		matched int
	}{
		{stream.Query{Limit: 1, Order: stream.ByPending}, "waits", 1, 5},
		{stream.Query{Limit: 3, Order: stream.ByAge}, "holds", 3, 5},
		{stream.Query{Limit: 3, Order: stream.ByBytes}, "shouts", 3, 5},
		{stream.Query{Limit: 2, Order: stream.ByEvents}, "talks", 2, 5},
		{stream.Query{Limit: 5, Order: stream.ByIdle}, "holds", 5, 5},
		{stream.Query{Limit: 5, State: "flushing"}, "ends", 1, 1},
		{stream.Query{Limit: 5, UserID: "shouts"}, "shouts", 1, 1},
		{stream.Query{Limit: 5, RequestID: "r-talks"}, "talks", 1, 1},
		{stream.Query{Limit: 5, RequestID: "r-talks", State: "paused"}, "", 0, 0},
		{stream.Query{Limit: -1}, "waits", 1, 5},
	} {
		found := r.Server.List(q.Query, patience)
		if len(found.Streams) != q.streams || found.Matched != q.matched ||
			(q.streams > 0 && found.Streams[0].UserID != q.first) {
			t.Errorf("%+v: %+v", q, found)
		}
	}
	g.shut.Store(false)
}

// An Order's name leads back to it.
func TestOrderNames(t *testing.T) {
	for o := stream.ByPending; o <= stream.ByEvents; o++ {
		if got, ok := stream.ParseOrder(o.String()); !ok || got != o {
			t.Errorf("%v came back as %v, %t", o, got, ok)
		}
	}
	if _, ok := stream.ParseOrder("size"); ok {
		t.Error("size is an order")
	}
}

// A stream whose conn lingers is over, and not listed.
func TestListLeavesOutWhatIsOver(t *testing.T) {
	r := rigWith(t, &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error { s.End(nil); return nil }},
		nil)
	c := r.TCP("")
	r.AwaitEnds(1)
	if n := r.Server.Counts().Connections; n != 1 {
		t.Fatalf("%d conns linger, want 1", n)
	}
	if found := r.Server.List(stream.Query{Limit: 5}, streamtest.Patience); found.Matched != 0 || found.Streams != nil {
		t.Errorf("%+v", found)
	}
	_ = c.Close()
}

// Goal: a loop that hangs is named, and costs neither the others' streams nor more than the patience; once it goes on,
// it is listed again. Method: a posted function holds loop 1 until the end of the first List.
func TestListNamesSilentLoops(t *testing.T) {
	const streams = 8
	r := rigOf(t, 2, (*streamtest.Script)(nil).Again, nil)
	for range streams {
		r.TCP("")
	}
	fdtest.Eventually(t, "the streams", func() bool { return r.Server.Counts().Streams == streams })
	held, release := make(chan struct{}), make(chan struct{})
	if err := r.Pool.Loops()[1].Post(func() { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held
	found := r.Server.List(stream.Query{Limit: streams}, 30*time.Millisecond)
	close(release)
	if !slices.Equal(found.Silent, []int{1}) || len(found.Streams) != streams/2 || found.Matched != streams/2 ||
		slices.ContainsFunc(found.Streams, func(i stream.Info) bool { return i.Loop != 0 }) {
		t.Errorf("%+v", found)
	}
	if found = r.Server.List(stream.Query{Limit: streams}, streamtest.Patience); found.Silent != nil || found.Matched != streams {
		t.Errorf("afterwards: %+v", found)
	}
}

// Goal: a List in several parts has every stream once, the first of the order from wherever they are, and a loop that
// closes ends it. Method: more streams on one loop than a part has, with clients of known ids; some leave while Lists
// run.
func TestListOfManyParts(t *testing.T) {
	const streams, leave = 1200, 150
	r := rigOf(t, 1, (*streamtest.Script)(nil).Again, func(c *stream.Config) { c.KeepAccess = true })
	var clients []*streamtest.Client
	for i := range streams {
		clients = append(clients, r.Unix(fmt.Sprintf(`{"user_id":%d}`, i)))
	}
	fdtest.Eventually(t, "the streams", func() bool { return r.Server.Counts().Streams == streams })
	if found := r.Server.List(stream.Query{Limit: math.MaxInt, Order: stream.ByAge}, streamtest.Patience); found.Matched != streams || len(found.Streams) != stream.ListMax {
		t.Errorf("%d matched, %d listed", found.Matched, len(found.Streams))
	} else {
		for i, info := range found.Streams {
			if want := fmt.Sprint(i); info.UserID != want {
				t.Fatalf("the stream of user %s is number %s by age", info.UserID, want)
			}
		}
	}
	for i := range leave { // from all over the list
		_ = clients[i*(streams/leave)].Close()
		if i%10 != 0 {
			continue
		}
		listed := map[string]bool{}
		found := r.Server.List(stream.Query{Limit: stream.ListMax, Order: stream.ByAge}, streamtest.Patience)
		for _, info := range found.Streams {
			if listed[info.UserID] {
				t.Fatalf("user %s is listed twice", info.UserID)
			}
			listed[info.UserID] = true
		}
		if len(found.Streams) != stream.ListMax || found.Matched < streams-leave {
			t.Fatalf("%d matched, %d listed", found.Matched, len(found.Streams))
		}
	}
}

// BenchmarkList reports what a List of 9,000 streams on one loop costs: ns/op to its caller, and what the loop's clients
// have to wait for at a time: the median and the 99th percentile of its parts.
func BenchmarkList(b *testing.B) {
	const n = 9000 // two descriptors each
	fdtest.NoLeaks(b)
	pool, err := loop.NewPool(1)
	if err != nil {
		b.Fatal(err)
	}
	server := stream.NewServer(pool, stream.Config{
		NewBackend: demo.Maker(demo.Options{Delay: time.Hour, Messages: 2}), Log: slog.New(slog.DiscardHandler),
		MaxConnections: n, MaxPendingBytes: 1 << 30, KeepAccess: true,
	})
	near, far := tcpPairs(b, n)
	open(b, pool, server, near)
	var parts []time.Duration
	defer stream.TimeLooks(func(d time.Duration) { parts = append(parts, d) })()
	for b.Loop() {
		if found := server.List(stream.Query{Limit: 100}, streamtest.Patience); found.Matched != n {
			b.Fatalf("%d matched", found.Matched)
		}
	}
	slices.Sort(parts)
	b.ReportMetric(float64(parts[len(parts)/2].Microseconds()), "us/part")
	b.ReportMetric(float64(parts[len(parts)*99/100].Microseconds()), "us/part-p99")
	for _, fd := range far {
		_ = unix.Close(fd)
	}
	fdtest.Eventually(b, "all clients to be gone", func() bool { return server.Held() == 0 })
	pool.Close()
}
