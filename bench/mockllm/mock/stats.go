package mock

import (
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Stats is what a server has counted.
type Stats struct {
	Requests    uint64   `json:"requests"`    // for completions, those refused included
	Open        int64    `json:"open"`        // streams now
	Finished    uint64   `json:"finished"`    // streams that went out to the script's end
	Cut         uint64   `json:"cut"`         // streams that the script had end early
	Cancelled   uint64   `json:"cancelled"`   // streams that the client ended
	Texts       uint64   `json:"texts"`       // pieces of text sent
	Connections int64    `json:"connections"` // now
	Accepted    uint64   `json:"accepted"`    // connections so far
	Cancels     []Cancel `json:"cancels"`     // the latest, oldest first
}

// Cancel is a stream that its client ended.
type Cancel struct {
	Tag string    `json:"tag,omitempty"` // of its script
	At  time.Time `json:"at"`            // when the server heard of it
}

// cancelsKept is how many Stats remembers.
const cancelsKept = 1024

// counters are behind Stats.
type counters struct {
	requests, finished, cut, cancelled, texts, accepted atomic.Uint64
	open, connections                                   atomic.Int64

	mu      sync.Mutex
	cancels []Cancel // guarded by mu
}

// cancel notes the end of a stream by its client.
func (c *counters) cancel(tag string) {
	at := time.Now()
	c.cancelled.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.cancels) == cancelsKept {
		c.cancels = append(c.cancels[:0], c.cancels[1:]...)
	}
	c.cancels = append(c.cancels, Cancel{tag, at})
}

// Stats reads what the server has counted. Any goroutine.
func (s *Server) Stats() Stats {
	c := &s.count
	c.mu.Lock()
	cancels := append([]Cancel{}, c.cancels...)
	c.mu.Unlock()
	return Stats{
		Requests: c.requests.Load(), Open: c.open.Load(), Finished: c.finished.Load(), Cut: c.cut.Load(),
		Cancelled: c.cancelled.Load(), Texts: c.texts.Load(), Connections: c.connections.Load(), Accepted: c.accepted.Load(),
		Cancels: cancels,
	}
}

func (s *Server) serveStats(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Stats()) // whoever asked may be gone
}
