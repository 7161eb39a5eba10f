package metrics_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"streaming-daemon-go/metrics"
)

func TestRoutes(t *testing.T) {
	m := metrics.New(metrics.Build{}, fixed(busy()))
	tests := []struct {
		name, method, path string
		h                  http.Handler
		status             int
		contentType        string
		body               string // must be in the body
	}{
		{"page", "GET", "/metrics", m.Handler(), 200, "text/plain; version=0.0.4; charset=utf-8", "\ndaemon_active_connections 101\n"},
		{"page, HEAD", "HEAD", "/metrics", m.Handler(), 200, "text/plain; version=0.0.4; charset=utf-8", ""},
		{"page, POST", "POST", "/metrics", m.Handler(), 405, "", ""},
		{"page, DELETE", "DELETE", "/metrics", m.Handler(), 405, "", ""},
		{"below the page", "GET", "/metrics/x", m.Handler(), 404, "", ""},
		{"health", "GET", "/healthz", m.Handler(), 200, "text/plain; charset=utf-8", "ok\n"},
		{"health, PUT", "PUT", "/healthz", m.Handler(), 405, "", ""},
		{"root", "GET", "/", m.Handler(), 404, "", ""},
		{"no pprof beside the page", "GET", "/debug/pprof/", m.Handler(), 404, "", ""},
		{"pprof", "GET", "/debug/pprof/", metrics.PprofHandler(), 200, "", "goroutine"},
		{"pprof, a profile by name", "GET", "/debug/pprof/goroutine?debug=1", metrics.PprofHandler(), 200, "", "goroutine profile"},
		{"pprof, command line", "GET", "/debug/pprof/cmdline", metrics.PprofHandler(), 200, "", ".test"},
		{"pprof, symbol", "POST", "/debug/pprof/symbol", metrics.PprofHandler(), 200, "", "num_symbols"},
		{"pprof, POST", "POST", "/debug/pprof/profile", metrics.PprofHandler(), 405, "", ""},
		{"no page beside pprof", "GET", "/metrics", metrics.PprofHandler(), 404, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			tt.h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
			res := w.Result()
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != tt.status || !strings.Contains(string(body), tt.body) {
				t.Errorf("%d (want %d), err %v, body without %q:\n%s", res.StatusCode, tt.status, err, tt.body, body)
			}
			if got := res.Header.Get("Content-Type"); tt.contentType != "" && got != tt.contentType {
				t.Errorf("content type %q", got)
			}
			if allow := res.Header.Get("Allow"); tt.status == 405 && !strings.Contains(allow, "GET") && !strings.Contains(allow, "POST") {
				t.Errorf("405 without Allow: %q", allow)
			}
		})
	}
}

// HEAD says how long the page would be and sends none of it; over a real
// connection, since the recorder of the test above keeps what net/http drops.
func TestHeadOverTheWire(t *testing.T) {
	s := serve(t, metrics.New(metrics.Build{}, fixed(busy())).Handler(), nil, metrics.ShortLimits{})
	c := dial(t, s)
	io.WriteString(c, "HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := strings.Cut(string(answer), "\r\n\r\n")
	if body != "" || !strings.HasPrefix(head, "HTTP/1.1 200 ") {
		t.Errorf("%s\n\n%d bytes of body", head, len(body))
	}
	_, length, _ := strings.Cut(head, "Content-Length: ")
	length, _, _ = strings.Cut(length, "\r\n")
	if n, err := strconv.Atoi(length); err != nil || n < 4096 {
		t.Errorf("Content-Length %q", length)
	}
}

// A read function that panics costs its own scrape: no page, a log line with
// the stack, and the endpoint lives on.
func TestReadPanicCostsOneScrape(t *testing.T) {
	log := &lines{}
	m := metrics.New(metrics.Build{}, func() metrics.Snapshot { panic("counters are on fire") })
	s := serve(t, m.Handler(), log.logger(), metrics.ShortLimits{})
	c := dial(t, s)
	io.WriteString(c, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
	if answer, err := io.ReadAll(c); len(answer) != 0 || err != nil {
		t.Errorf("answer %q, %v, want a bare end", answer, err)
	}
	if status, _ := get(t, s, "/healthz"); status != 200 {
		t.Errorf("health after the panic: %d", status)
	}
	if got := log.String(); !strings.Contains(got, "counters are on fire") || !strings.Contains(got, "level=WARN") {
		t.Errorf("log: %s", got)
	}
}
