package main_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// The page that stands in for Apache: it is served, and both of its ways to a stream go over the real handoff socket.
func TestFront(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"-seqpacket-socket", ""}} { // the other socket has to do then
		d := start(t, append([]string{"-front", "127.0.0.1:0"}, args...)...)
		base := strings.TrimSuffix(d.awaitLog("front: open this page")["url"].(string), "/")
		if page := d.get(base + "/"); !strings.Contains(page, "EventSource") && !strings.Contains(page, "<script") {
			t.Errorf("the page is %q", page)
		}
		get, err := http.NewRequest(http.MethodGet, base+"/stream?prompt="+url.QueryEscape("by GET & more"), nil)
		if err != nil {
			t.Fatal(err)
		}
		post, err := http.NewRequest(http.MethodPost, base+"/stream", strings.NewReader(`{"prompt":"by POST & more"}`))
		if err != nil {
			t.Fatal(err)
		}
		post.Header.Set("Content-Type", "application/json")
		for _, request := range []*http.Request{get, post} {
			response, err := scraper.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if err != nil || response.StatusCode != http.StatusOK || response.Header.Get("X-Request-Id") == "" {
				t.Fatalf("%s: %s, %v, %v", request.Method, response.Status, response.Header, err)
			}
			a := parse(t, raw{bytes: body}, true)
			if want := "Hello! You said: by " + request.Method + " & more"; !a.complete() || a.text(t) != want {
				t.Errorf("%s: %q", request.Method, body)
			}
		}
		d.awaitMetric("daemon_active_connections", 0)
		if n := d.metric("daemon_handoffs_total"); n != 2 {
			t.Errorf("%v handoffs for two streams", n)
		}
	}
}
