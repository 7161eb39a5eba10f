package health

import (
	"encoding/json"
	"net/http"
	"time"
)

// Patience is how long a loop may take to answer before it is said to hang: hundreds of turns under full load.
const Patience = time.Second

// Alive is the handler of /healthz: 200 {"status":"ok"}, or 503 {"status":"hung","loops":[1]} with the loops that did
// not answer in time. It answers within Patience.
func (c *Checker) Alive() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if hung := c.Hung(Patience); hung != nil {
			reply(w, http.StatusServiceUnavailable, state{Status: "hung", Loops: hung})
			return
		}
		reply(w, http.StatusOK, state{Status: "ok"})
	})
}

// Ready is the handler of /readyz: 200 {"status":"ready"} while handoffs are accepted, otherwise 503 with the reasons.
// reasons is called for each request; it may wait for loops, and is not called while one hangs.
func (c *Checker) Ready(reasons func() []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if hung := c.Hung(Patience); hung != nil {
			reply(w, http.StatusServiceUnavailable, state{Status: "not ready", Loops: hung, Reasons: []string{"a loop hangs"}})
			return
		}
		if why := reasons(); len(why) > 0 {
			reply(w, http.StatusServiceUnavailable, state{Status: "not ready", Reasons: why})
			return
		}
		reply(w, http.StatusOK, state{Status: "ready"})
	})
}

// state is the body of an answer.
type state struct {
	Status  string   `json:"status"`
	Loops   []int    `json:"loops,omitempty"`   // that hang, by their number in daemon_loop_streams
	Reasons []string `json:"reasons,omitempty"` // a line each
}

func reply(w http.ResponseWriter, status int, s state) {
	body, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the asker has left
}
