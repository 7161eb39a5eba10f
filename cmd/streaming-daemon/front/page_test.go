package front_test

import (
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/fdrecv/fdtest"
)

// mediaTypes is by extension. Scripts and styles of another type are not run: nosniff.
var mediaTypes = map[string]string{
	"":     "text/html; charset=utf-8",
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

// get reads what the front serves under name, and checks what holds for every answer.
func get(t testing.TB, s *front.Server, name string) string {
	t.Helper()
	response, err := client(t).Get(s.URL() + name)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body := readAll(t, response.Body)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("/%s: %s", name, response.Status)
	}
	want := mediaTypes[path.Ext(name)]
	if got := response.Header.Get("Content-Type"); got != want {
		t.Errorf("/%s: Content-Type %q, want %q", name, got, want)
	}
	policy := response.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Errorf("/%s: Content-Security-Policy %q", name, policy)
	}
	for field, want := range map[string]string{
		"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := response.Header.Get(field); got != want {
			t.Errorf("/%s: %s %q, want %q", name, field, got, want)
		}
	}
	return body
}

// The page has to work on a machine without a network: nothing it loads is elsewhere, all of it is served, and none
// of its markup needs what the content security policy forbids (the browser would leave it out without a word).
func TestPageIsSelfContained(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{})
	page := get(t, s, "")
	all := map[string]string{"": page}
	for _, name := range front.AssetNames() {
		all[name] = get(t, s, name)
	}
	external := regexp.MustCompile(`(?i)\b[a-z]+://|["'(=\s]//[a-z0-9]+\.|@import|url\((['"]?)[^#]`)
	for name, text := range all {
		text = strings.ReplaceAll(text, `xmlns="http://www.w3.org/2000/svg"`, "") // a name, never fetched
		if found := external.FindAllString(text, -1); found != nil {
			t.Errorf("/%s refers to %q", name, found)
		}
	}
	var used []string
	for _, m := range regexp.MustCompile(`(?:src|href|from) ?=?["']?["' ]/([a-z0-9./-]+)["']`).FindAllStringSubmatch(page+all["app.js"], -1) {
		used = append(used, m[1])
	}
	slices.Sort(used)
	names := slices.Sorted(slices.Values(front.AssetNames()))
	if used = slices.Compact(used); !slices.Equal(used, names) {
		t.Errorf("page and script use %q, served are %q", used, names)
	}
	if found := regexp.MustCompile(`(?i)<script>|<style|\s(style|on[a-z]+)=`).FindAllString(page, -1); found != nil {
		t.Errorf("markup that the policy forbids: %q", found)
	}
}

// Every field has its label, and every reference to an element of the page has its element.
func TestPageReferences(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{})
	page := get(t, s, "")
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(`\sid="([^"]+)"`).FindAllStringSubmatch(page, -1) {
		if ids[m[1]]++; ids[m[1]] > 1 {
			t.Errorf("id %q stands twice", m[1])
		}
	}
	references := regexp.MustCompile(`(?:\sfor="|aria-labelledby="|aria-describedby="|href="#|url\(#)([^")]+)`).FindAllStringSubmatch(page, -1)
	if len(references) < 10 {
		t.Fatalf("only %d references found: the pattern is wrong", len(references))
	}
	for _, m := range references {
		if ids[m[1]] == 0 {
			t.Errorf("nothing has the id %q", m[1])
		}
	}
}

func TestMetricsLink(t *testing.T) {
	fdtest.NoLeaks(t)
	const metrics = "http://127.0.0.1:9090/metrics"
	with := get(t, startFront(t, front.Config{Send: discard, MetricsURL: metrics}, front.Limits{}), "")
	without := get(t, startFront(t, front.Config{Send: discard}, front.Limits{}), "")
	if !strings.Contains(with, `<a href="`+metrics+`"`) {
		t.Error("no link to the metrics")
	}
	if strings.Contains(without, "Metrics") {
		t.Error("a link to metrics that are not served")
	}
}

// A browser that has the page asks whether it changed, and reads it once.
func TestUnchanged(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{})
	c := client(t)
	for _, name := range append(front.AssetNames(), "") {
		first, err := c.Get(s.URL() + name)
		if err != nil {
			t.Fatal(err)
		}
		_ = first.Body.Close()
		request, err := http.NewRequest("GET", s.URL()+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("If-None-Match", first.Header.Get("ETag"))
		second, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = second.Body.Close()
		if second.StatusCode != http.StatusNotModified {
			t.Errorf("/%s: %s", name, second.Status)
		}
	}
}

func TestOtherPaths(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{})
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"GET", "index.html", 404}, {"GET", "assets/", 404}, {"GET", "stream/x", 404}, {"GET", "nowhere", 404},
		{"POST", "", 405}, {"POST", "app.js", 405}, {"HEAD", "", 200},
	} {
		request, err := http.NewRequest(tt.method, s.URL()+tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client(t).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tt.status {
			t.Errorf("%s /%s: %s, want %d", tt.method, tt.path, response.Status, tt.status)
		}
	}
}
