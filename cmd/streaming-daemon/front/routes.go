package front

import (
	"fmt"
	"net/http"

	"streaming-daemon-go/sse"
)

// securityPolicy lets the page load and reach its own server only. No 'unsafe-inline': the markup has neither inline
// script nor style.
const securityPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// routes is the handler of every request.
func (s *Server) routes(metricsURL string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{$}", newPage(metricsURL))
	for _, a := range assets {
		mux.Handle("GET /"+a.name, newAsset(a))
	}
	mux.HandleFunc("/stream", s.stream)
	return s.guard(mux)
}

// guard is what every request passes first.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", securityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer") // a prompt may stand in the address bar: /stream?prompt=…
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if err := s.foreign(r); err != nil {
			refuse(w, err)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refusal is an error with the status that a client reads.
type refusal struct {
	status  int
	message string
}

func (r *refusal) Error() string { return fmt.Sprintf("front: %d: %s", r.status, r.message) }

// refuse answers with a one-line JSON body, of the shape that the daemon's own rejections have.
func refuse(w http.ResponseWriter, r *refusal) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(r.status)
	// A client that is gone cannot be told.
	_, _ = fmt.Fprintf(w, `{"error":{"status":%d,"message":%s}}`+"\n", r.status, sse.AppendJSONString(nil, r.message))
}
