package front

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"time"
)

//go:embed assets
var files embed.FS

// asset is a file that is served under its own name.
type asset struct{ name, mediaType string }

var assets = []asset{
	{"app.css", "text/css; charset=utf-8"},
	{"app.js", "text/javascript; charset=utf-8"},
	{"sse.js", "text/javascript; charset=utf-8"},
	{"icon.svg", "image/svg+xml"},
}

// newPage renders the page once: nothing on it changes while the server runs.
func newPage(metricsURL string) http.Handler {
	t := template.Must(template.ParseFS(files, "assets/index.html"))
	var b bytes.Buffer
	// html/template makes "#ZgotmplZ" of a javascript: URL.
	if err := t.Execute(&b, struct{ MetricsURL string }{metricsURL}); err != nil {
		panic(err) // the template is ours: it cannot fail
	}
	return fixed(b.Bytes(), "text/html; charset=utf-8")
}

func newAsset(a asset) http.Handler {
	content, err := files.ReadFile("assets/" + a.name)
	if err != nil {
		panic(err) // the binary was built without it
	}
	return fixed(content, a.mediaType)
}

// fixed serves content, which is never written to. Browsers keep it but ask each time whether it changed: the next
// build may serve something else under the same name.
func fixed(content []byte, mediaType string) http.Handler {
	tag := fmt.Sprintf(`"%x"`, sha256.Sum256(content))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", mediaType)
		h.Set("Cache-Control", "no-cache")
		h.Set("ETag", tag)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	})
}
