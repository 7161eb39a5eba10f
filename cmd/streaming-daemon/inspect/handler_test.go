package inspect_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/inspect"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/stream"
	"streaming-daemon-go/sse/stream/streamtest"
)

// answer is the JSON as a script would read it.
type answer struct {
	ActiveStreams     int     `json:"active_streams"`
	ActiveConnections int     `json:"active_connections"`
	PausedStreams     int     `json:"paused_streams"`
	PendingBytes      int     `json:"pending_bytes"`
	LoopStreams       []int   `json:"loop_streams"`
	SilentLoops       []int   `json:"silent_loops"`
	Order             string  `json:"order"`
	Matched           int     `json:"matched"`
	Streams           []entry `json:"streams"`
}

type entry struct {
	Loop      int     `json:"loop"`
	State     string  `json:"state"`
	Paused    bool    `json:"paused"`
	Age       float64 `json:"age_seconds"`
	Idle      float64 `json:"idle_seconds"`
	Events    int     `json:"events"`
	Bytes     int     `json:"bytes"`
	Pending   int     `json:"pending_bytes"`
	Client    string  `json:"client"`
	UserID    string  `json:"user_id"`
	RequestID string  `json:"request_id"`
	Backend   string  `json:"backend"`
}

// get asks, and reads the answer when the status is 200.
func get(t testing.TB, h http.Handler, query string) (status int, text string, a answer) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/streams?"+query, nil))
	if w.Code == http.StatusOK {
		d := json.NewDecoder(strings.NewReader(w.Body.String()))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil {
			t.Fatalf("%v: %s", err, w.Body)
		}
		if got := w.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q", got)
		}
	}
	return w.Code, w.Body.String(), a
}

// newRig is a server with streams that send one event of 2,000 bytes and go on for ever.
func newRig(t testing.TB, loops int) *streamtest.Rig {
	t.Helper()
	var r *streamtest.Rig
	r = streamtest.New(t, loops, func(c *stream.Config) {
		c.KeepAccess = true
		c.NewBackend = func(*loop.Loop) stream.Backend {
			s := &streamtest.Script{OnStart: func(s *streamtest.Script, _ fdrecv.Payload) error {
				s.Send("data: " + strings.Repeat("x", 1992) + "\n\n")
				return nil
			}}
			r.Watch(s)
			return s
		}
	})
	return r
}

// Goal: the answer has the totals and each stream as it is, and nothing that an id holds gets out of its string.
// Method: three streams with known ids, one of them hostile, on two loops.
func TestHandler(t *testing.T) {
	r := newRig(t, 2)
	h := inspect.Handler(r.Server)
	const hostile = "\"}],\n<script>\x00\x1b[31m\u2028"
	quoted, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	r.TCP(`{"user_id":"u1","request_id":"r1"}`)
	r.TCP(`{"user_id":2,"request_id":"r2"}`)
	r.TCP(fmt.Sprintf(`{"user_id":%s,"request_id":"r3"}`, quoted))
	fdtest.Eventually(t, "the streams' events", func() bool { return r.FirstBytes() == 3 })
	status, text, a := get(t, h, "limit=1000&order=age")
	if status != http.StatusOK || a.ActiveStreams != 3 || a.ActiveConnections != 3 || a.PausedStreams != 0 || a.PendingBytes != 0 ||
		a.Matched != 3 || a.Order != "age" || a.SilentLoops != nil || len(a.Streams) != 3 ||
		len(a.LoopStreams) != 2 || a.LoopStreams[0]+a.LoopStreams[1] != 3 {
		t.Fatalf("%d %s", status, text)
	}
	if strings.ContainsAny(text, "<\x00\x1b\u2028") || strings.Count(text, "\n") != 1 {
		t.Errorf("unescaped: %q", text)
	}
	perLoop := make([]int, 2)
	for i, s := range a.Streams {
		perLoop[s.Loop]++
		if s.State != "open" || s.Paused || s.Events != 1 || s.Bytes < 2000 || s.Bytes > 3000 || s.Pending != 0 ||
			s.Client != "127.0.0.1:1" || s.RequestID != fmt.Sprint("r", i+1) || s.Age < s.Idle || s.Age > 10 {
			t.Errorf("%+v", s)
		}
	}
	if a.Streams[1].UserID != "2" || a.Streams[2].UserID != hostile || perLoop[0] != a.LoopStreams[0] {
		t.Errorf("%+v", a)
	}
	for query, want := range map[string]int{
		"user=u1": 1, "user=nobody": 0, "request=r3": 1, "state=open": 3, "state=paused": 0, "limit=2": 3, "": 3,
	} {
		if status, text, a := get(t, h, query); status != http.StatusOK || a.Matched != want || a.Streams == nil ||
			len(a.Streams) != min(want, 2) && query == "limit=2" {
			t.Errorf("%s: %d %s", query, status, text)
		}
	}
	if status, text, a := get(t, h, "limit=0"); status != http.StatusOK || a.ActiveStreams != 3 || len(a.Streams) != 0 {
		t.Errorf("limit=0: %d %s", status, text)
	}
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, httptest.NewRequest(http.MethodDelete, "/streams", nil)); w.Code != http.StatusMethodNotAllowed ||
		w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("DELETE: %d %v", w.Code, w.Header())
	}
	for query, want := range map[string]string{
		"limit=1001": "0 to 1000", "limit=-1": "0 to 1000", "limit=all": "0 to 1000", "order=size": "pending, age",
		"state=closed": "held, open", "sort=age": `no parameter "sort"`, "limit=%zz": "malformed",
	} {
		if status, text, _ := get(t, h, query); status != http.StatusBadRequest || !strings.Contains(text, want) ||
			strings.Count(text, "\n") != 1 {
			t.Errorf("%s: %d %q, want %q", query, status, text, want)
		}
	}
}

// Goal: a loop that hangs is named, costs its asker no more than the patience, and holds up no crowd of askers: the
// second one is sent away. Method: a posted function holds one loop; the first request is known to be inside because
// the totals alone, which take no turn, are still answered.
func TestHandlerWhileALoopHangs(t *testing.T) {
	r := newRig(t, 2)
	r.TCP("")
	r.TCP("")
	fdtest.Eventually(t, "the streams' events", func() bool { return r.FirstBytes() == 2 })
	held, release := make(chan struct{}), make(chan struct{})
	if err := r.Pool.Loops()[1].Post(func() { close(held); <-release }); err != nil {
		t.Fatal(err)
	}
	<-held
	status, text, a := get(t, inspect.HandlerWithin(r.Server, 20*time.Millisecond), "")
	if status != http.StatusOK || len(a.SilentLoops) != 1 || a.SilentLoops[0] != 1 || a.Matched != 1 || a.ActiveStreams != 2 {
		t.Errorf("%d %s", status, text)
	}
	close(release)

	busy := &blocked{Server: r.Server, inside: make(chan struct{}), release: make(chan struct{})}
	h := inspect.HandlerWithin(busy, 20*time.Millisecond)
	first := make(chan int)
	go func() {
		status, _, _ := get(t, h, "")
		first <- status
	}()
	<-busy.inside
	if status, text, _ := get(t, h, ""); status != http.StatusServiceUnavailable || !strings.Contains(text, "others are asking") {
		t.Errorf("the second asker: %d %s", status, text)
	}
	if status, _, a := get(t, h, "limit=0"); status != http.StatusOK || a.ActiveStreams != 2 {
		t.Errorf("the totals: %d, %+v", status, a)
	}
	close(busy.release)
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first asker: %d", status)
	}
}

// blocked is a server whose List waits.
type blocked struct {
	inspect.Server
	inside, release chan struct{}
}

func (b *blocked) List(q stream.Query, patience time.Duration) stream.Listing {
	close(b.inside)
	<-b.release
	return b.Server.List(q, patience)
}
