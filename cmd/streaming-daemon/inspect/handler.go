package inspect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/sse/stream"
)

// limitDefault is how many streams an answer has when nobody says: a screen or two.
const limitDefault = 100

// Patience is how long a loop may take to answer, and a request may wait for its turn.
const Patience = time.Second

// Server is whose streams are shown: a stream.Server.
type Server interface {
	List(q stream.Query, patience time.Duration) stream.Listing
	Counts() stream.Counts
}

// Handler answers GET /streams. Parameters, all optional:
//
//	limit    streams in the answer, 0 to 1000, 100 by default; 0: the totals alone, no stream is looked at
//	order    which come first: pending (the default), age, idle, bytes, events; most or oldest first
//	state    only those that are held, open, paused or flushing
//	user     only those of this user id; request likewise. No stream has one while the daemon writes no access log
//
// The answer is one JSON object, see reply. 400 names a parameter that is wrong, 503 says that others are
// asking; what is neither GET nor HEAD gets a 405.
func Handler(s Server) http.Handler { return handler(s, Patience) }

func handler(s Server, patience time.Duration) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "GET and HEAD only", http.StatusMethodNotAllowed)
			return
		}
		q, err := parse(r.URL.RawQuery)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		var found stream.Listing
		if q.Limit > 0 {
			timer := time.NewTimer(patience)
			defer timer.Stop()
			select {
			case turn <- struct{}{}:
			case <-r.Context().Done():
				return
			case <-timer.C:
				w.Header().Set("Retry-After", "1")
				http.Error(w, "others are asking: try again", http.StatusServiceUnavailable)
				return
			}
			found = s.List(q, patience)
			<-turn
		}
		write(w, newReply(q, found, s.Counts()))
	})
}

// parse reads the parameters. An error is one line for the asker.
func parse(raw string) (q stream.Query, err error) {
	q.Limit = limitDefault
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, fmt.Errorf("the query is malformed: %w", err)
	}
	for name, all := range values {
		value, ok := all[0], true
		switch name {
		case "limit":
			q.Limit, err = strconv.Atoi(value)
			if err != nil || q.Limit < 0 || q.Limit > stream.ListMax {
				return q, fmt.Errorf("limit is %q: it must be 0 to %d", value, stream.ListMax)
			}
		case "order":
			if q.Order, ok = stream.ParseOrder(value); !ok {
				return q, fmt.Errorf("order is %q: it must be pending, age, idle, bytes or events", value)
			}
		case "state":
			if q.State = value; !slices.Contains(stream.States, value) {
				return q, fmt.Errorf("state is %q: it must be %s", value, strings.Join(stream.States, ", "))
			}
		case "user":
			q.UserID = value
		case "request":
			q.RequestID = value
		default:
			return q, fmt.Errorf("there is no parameter %q: there are limit, order, state, user and request", name)
		}
	}
	return q, nil
}

// reply is the answer. Names and units are those of the metrics.
type reply struct {
	Active      int64   `json:"active_streams"` // all of them, whatever was asked for
	Connections int64   `json:"active_connections"`
	Paused      int64   `json:"paused_streams"`
	Pending     int64   `json:"pending_bytes"`
	LoopStreams []int64 `json:"loop_streams"`           // by loop
	Silent      []int   `json:"silent_loops,omitempty"` // did not answer within a second: their streams are missing
	Order       string  `json:"order"`                  // of streams
	Matched     int     `json:"matched"`                // streams that were asked for
	Streams     []entry `json:"streams"`
}

// entry is one stream.
type entry struct {
	Loop      int     `json:"loop"`
	State     string  `json:"state"`
	Paused    bool    `json:"paused"`
	Age       float64 `json:"age_seconds"`
	Idle      float64 `json:"idle_seconds"` // since something was last sent
	Events    uint64  `json:"events"`
	Bytes     uint64  `json:"bytes"` // that the kernel took
	Pending   int     `json:"pending_bytes"`
	Client    string  `json:"client,omitempty"` // address:port
	UserID    string  `json:"user_id,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
	Backend   string  `json:"backend,omitempty"`
}

func newReply(q stream.Query, found stream.Listing, c stream.Counts) reply {
	r := reply{
		Active: c.Streams, Connections: c.Connections, Paused: c.Paused, Pending: c.Pending, LoopStreams: c.PerLoop,
		Silent: found.Silent, Order: q.Order.String(), Matched: found.Matched, Streams: []entry{},
	}
	for _, s := range found.Streams {
		e := entry{
			Loop: s.Loop, State: s.State, Paused: s.State == "paused", Age: seconds(s.Age), Idle: seconds(s.Idle),
			Events: s.Events, Bytes: s.Bytes, Pending: s.Pending, UserID: s.UserID, RequestID: s.RequestID, Backend: s.Backend,
		}
		if s.Client != (netip.AddrPort{}) {
			e.Client = s.Client.String()
		}
		r.Streams = append(r.Streams, e)
	}
	return r
}

// seconds has milliseconds; more would be noise.
func seconds(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

func write(w http.ResponseWriter, r reply) {
	body, err := json.Marshal(r) // escapes whatever an id holds
	if err != nil {
		panic(err) // strings and finite numbers
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(append(body, '\n')) // the asker has left
}
