package browsertest_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"streaming-daemon-go/cmd/streaming-daemon/apachetest"
	"streaming-daemon-go/cmd/streaming-daemon/chromiumtest"
	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
)

// page is the front's page in a browser.
type page struct {
	t testing.TB
	*chromiumtest.Browser
}

// openPage opens the page, wherever it is served.
func openPage(t testing.TB, url string) page {
	t.Helper()
	p := page{t, chromiumtest.Start(t, url)}
	p.Eval(`
		window.part = (id, name) => document.querySelector('#' + id + ' [data-part=' + name + ']');
		window.button = (id, action) => document.querySelector('#' + id + ' [data-action=' + action + ']');
		window.until = async (f) => { while (!f()) await new Promise(requestAnimationFrame); };`, nil)
	return p
}

// panel is what a visitor sees of one of the two.
type panel struct{ Text, Problem, Events, State, Raw string }

// eventSource and viaFetch are the ids of the two.
const (
	eventSource = "es"
	viaFetch    = "fetch"
)

// start presses a panel's button.
func (p page) start(id string) {
	p.t.Helper()
	p.Eval(`button('`+id+`', 'start').click()`, nil)
}

// startBoth enters the prompt and presses the button of both.
func (p page) startBoth(prompt string) {
	p.t.Helper()
	p.Eval(`document.getElementById('prompt').value = `+quote(prompt)+`; document.getElementById('start-both').click()`, nil)
}

// await waits until a panel shows so many events; nothing else is waited for.
func (p page) await(id string, events int) {
	p.t.Helper()
	p.Eval(`until(() => Number(part('`+id+`', 'events').textContent) >= `+strconv.Itoa(events)+`)`, nil)
}

// end waits until a panel's stream is over and gives what it shows.
func (p page) end(id string) (seen panel) {
	p.t.Helper()
	p.Eval(`(async () => {
		await until(() => button('`+id+`', 'stop').disabled);
		const text = (name) => part('`+id+`', name).textContent;
		return { Text: text('text'), Problem: part('`+id+`', 'problem').hidden ? '' : text('problem'),
			Events: text('events'), State: text('state'), Raw: text('raw') };
	})()`, &seen)
	return seen
}

func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string cannot fail
	}
	return string(b)
}

// check holds both panels to the whole stream: its text, and each of its events in order, as raw shows them.
func (p page) check(words []string) {
	p.t.Helper()
	var asEvents, asBytes strings.Builder
	for _, word := range words {
		data := fmt.Sprintf(`{"content":%q}`, word)
		fmt.Fprintf(&asEvents, "message: %s\n", data)
		fmt.Fprintf(&asBytes, "data: %s\n\n", data)
	}
	asEvents.WriteString("message: [DONE]\n")
	asBytes.WriteString("data: [DONE]\n\n")
	for id, raw := range map[string]string{eventSource: asEvents.String(), viaFetch: asBytes.String()} {
		got := p.end(id)
		if got.Text != strings.Join(words, "") || got.Raw != raw || got.Events != strconv.Itoa(len(words)+1) ||
			got.Problem != "" || !strings.HasPrefix(got.State, "Done") {
			p.t.Errorf("%s: %+v\nwant %q", id, got, raw)
		}
	}
}

// refused holds a panel to a problem that it shows in place of a stream.
func (p page) refused(id, state, problem string) {
	p.t.Helper()
	if got := p.end(id); got.Text != "" || !strings.HasPrefix(got.State, state) || !strings.Contains(got.Problem, problem) {
		p.t.Errorf("%s: %+v, want %q: %q", id, got, state, problem)
	}
}

// endless is a demo with one event, and then nothing.
var endless = []string{"-demo-delay", "1h", "-demo-messages", "2"}

// The page of `make run`, with the daemon behind it, from the first event to the last.
func TestPageOfTheFront(t *testing.T) {
	d := daemontest.Start(t, "-front", "127.0.0.1:0", "-demo-delay", "50ms")
	p := openPage(t, d.FrontURL())
	for range 2 { // the second time shows that nothing of the first came back
		p.startBoth("one two  three 日本語 \U0001f600 \"four\" </script>")
		p.check([]string{"Hello!", " You", " said:", " one", " two", "  three", " 日本語", " \U0001f600", ` "four"`, " </script>"})
	}
	if n := d.Metric("daemon_handoffs_total"); n != 4 {
		t.Errorf("%v streams, want 4", n)
	}
	if *screenshot != "" {
		p.picture()
	}
}

// picture takes the README's.
func (p page) picture() {
	p.t.Helper()
	p.Size(1280, 1500) // a little higher than the page: no scroll bar
	p.startBoth("Tell me how a socket travels from a web server to an event loop, one word at a time.")
	p.await(eventSource, 13)
	p.await(viaFetch, 13)
	if err := os.WriteFile(*screenshot, p.Screenshot(), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// With no room for a second stream the page says so, whichever panel asks: fetch() knows the status, EventSource does
// not.
func TestPageShowsRefusals(t *testing.T) {
	d := daemontest.Start(t, append([]string{"-front", "127.0.0.1:0", "-max-connections", "1"}, endless...)...)
	p := openPage(t, d.FrontURL())
	p.start(eventSource)
	p.await(eventSource, 1)
	p.start(viaFetch)
	p.refused(viaFetch, "Refused (503)", "too many streams are open. Try again in 5 s.")
	p.Eval(`button('es', 'stop').click()`, nil)
	d.AwaitMetric("daemon_active_connections", 0)
	p.start(viaFetch)
	p.await(viaFetch, 1)
	p.start(eventSource)
	p.refused(eventSource, "Refused", "The server refused the stream")
	p.Eval(`button('fetch', 'stop').click()`, nil)
}

// The same page behind a real Apache: PHP asks who it is, Apache sends the head, the daemon the events.
func TestPageThroughApache(t *testing.T) {
	chromiumtest.Need(t)
	d := daemontest.Start(t, "-front", "127.0.0.1:0")
	a := apachetest.Start(t, apachetest.Config{MPM: apachetest.Event, Site: "fdpass.conf", Socket: d.FDPass})
	copyPage(t, d.FrontURL(), a)
	p := openPage(t, "http://"+a.Addr+"/")

	p.startBoth("hello")
	p.refused(eventSource, "Refused", "The server refused the stream")
	p.refused(viaFetch, "Refused (401)", "sign in first")

	p.Eval(`document.cookie = `+quote(a.SignIn("42")), nil)
	p.startBoth("hello")
	p.check([]string{"Hello!", " You", " sent", " no", " prompt."}) // no payload comes this way
	if n := d.Metric("daemon_handoffs_total"); n != 2 {
		t.Errorf("%v streams, want 2", n)
	}
}

// Behind mod_proxy_fdpass a refusal comes as an event, since Apache has sent a 200 by then: both panels show it.
func TestPageThroughApacheShowsRefusals(t *testing.T) {
	chromiumtest.Need(t)
	d := daemontest.Start(t, append([]string{"-front", "127.0.0.1:0", "-max-connections", "1"}, endless...)...)
	a := apachetest.Start(t, apachetest.Config{MPM: apachetest.Event, Site: "fdpass.conf", Socket: d.FDPass})
	copyPage(t, d.FrontURL(), a)
	p := openPage(t, "http://"+a.Addr+"/")
	p.Eval(`document.cookie = `+quote(a.SignIn("42")), nil)
	for _, two := range [][2]string{{eventSource, viaFetch}, {viaFetch, eventSource}} {
		p.start(two[0])
		p.await(two[0], 1)
		p.start(two[1])
		p.refused(two[1], "Failed", "too many streams are open")
		p.Eval(`button('`+two[0]+`', 'stop').click()`, nil)
		d.AwaitMetric("daemon_active_connections", 0)
	}
}

// copyPage puts what the front serves into Apache's document root.
func copyPage(t testing.TB, front string, a *apachetest.Apache) {
	t.Helper()
	assets, err := os.ReadDir(filepath.Join("..", "front", "assets"))
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	for _, asset := range assets {
		path := asset.Name()
		if path == "index.html" {
			path = "" // a template: what counts is what the front makes of it
		}
		response, err := client.Get(front + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", asset.Name(), response.Status, err)
		}
		if err := os.WriteFile(filepath.Join(a.Root, "htdocs", asset.Name()), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
