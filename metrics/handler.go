package metrics

import (
	"bytes"
	"net/http"
	"net/http/pprof"
	"strconv"
)

// pageType is the content type of the text format, version 0.0.4.
const pageType = "text/plain; version=0.0.4; charset=utf-8"

// Handler returns the routes of the metrics endpoint, on a mux of its own:
//
//	/metrics  the page
//	/healthz  "ok" while the process answers, a drain included: it is alive,
//	          and daemon_draining says that it drains
//
// GET and HEAD only; anything else is 405, any other path 404. To add routes,
// hang it into another mux at "/".
func (m *Metrics) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		// The whole page first: a read function that panics then costs this
		// scrape (the scraper sees a closed connection), where half a page
		// with status 200 would be taken for a whole one.
		var body bytes.Buffer
		m.WritePrometheus(&body)
		reply(w, pageType, body.Bytes())
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, "text/plain; charset=utf-8", []byte("ok\n"))
	})
	return mux
}

// reply sends a 200. The length is set so that HEAD tells it too.
func reply(w http.ResponseWriter, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.Write(body) // an error is the far end's leaving
}

// PprofHandler returns net/http/pprof below /debug/pprof/, on a mux of its
// own, for a listener of its own (ListenPprof): profiles show memory and cost
// CPU, so who may scrape may not therefore profile. The import registers the
// same routes on http.DefaultServeMux; nothing in the daemon serves that mux.
func PprofHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}
