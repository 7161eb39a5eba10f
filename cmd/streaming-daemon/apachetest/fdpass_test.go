package apachetest_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/apachetest"
	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
	"streaming-daemon-go/sse/demo"
)

var mpms = []apachetest.MPM{apachetest.Event, apachetest.Prefork}

// eachMPM runs a test once for each, side by side.
func eachMPM(t *testing.T, test func(t *testing.T, mpm apachetest.MPM)) {
	t.Parallel()
	for _, mpm := range mpms {
		t.Run(string(mpm), func(t *testing.T) {
			t.Parallel()
			test(t, mpm)
		})
	}
}

// Goal: far more streams than Apache has workers, through PHP's check and a real handoff each, and Apache is idle while
// they run. Method: every client reads one event and then nothing, which keeps its stream open (it is larger than all
// the buffers on the way), until all are seen to be open and Apache to be free; then all read on to the end.
func TestFDPassFreesTheWorkers(t *testing.T) {
	const (
		clients  = 500
		messages = 3000 // of 58 bytes: 174 kB, above what the client's 8 KiB, the kernel and the daemon's high watermark hold
	)
	eachMPM(t, func(t *testing.T, mpm apachetest.MPM) {
		d := daemontest.Start(t, "-demo-delay", "0", "-demo-messages", fmt.Sprint(messages))
		a := apachetest.Start(t, apachetest.Config{MPM: mpm, Site: "fdpass.conf", Socket: d.FDPass})
		b := newBrowser(t, a, a.SignIn("42"))
		open, release := make(chan struct{}, clients), make(chan struct{})
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				response, err := b.Do(b.request(http.MethodGet, "/stream", ""))
				if err != nil {
					t.Error(err)
					open <- struct{}{}
					return
				}
				defer response.Body.Close()
				first := make([]byte, len(demo.Message))
				_, err = io.ReadFull(response.Body, first)
				open <- struct{}{}
				if err != nil || string(first) != demo.Message || response.Header.Get("Content-Type") != "text/event-stream; charset=utf-8" {
					t.Errorf("%s %v: %q, %v", response.Status, response.Header, first, err)
					return
				}
				<-release
				rest, err := io.ReadAll(response.Body)
				if want := strings.Repeat(demo.Message, messages-1) + "data: [DONE]\n\n"; err != nil || string(rest) != want {
					t.Errorf("%d bytes, want %d; they end in %q, then %v", len(rest), len(want), rest[max(0, len(rest)-80):], err)
				}
			})
		}
		readOn := sync.OnceFunc(func() { close(release) })
		defer all.Wait()
		defer readOn()
		for range clients {
			<-open
		}
		d.AwaitMetric("daemon_active_streams", clients)
		visitor := newBrowser(t, a, "")
		busyOf := regexp.MustCompile(`(?m)^BusyWorkers: (\d+)$`)
		busy, status := "", ""
		for end := time.Now().Add(patience); time.Now().Before(end) && busy != "1"; { // 1: the request that asks
			status = visitor.get(t, "/server-status?auto").body
			if m := busyOf.FindStringSubmatch(status); m != nil {
				busy = m[1]
			}
		}
		if busy != "1" {
			t.Errorf("%d streams are open, and Apache is not idle:\n%s", clients, status)
		}
		for range 3 * apachetest.Workers {
			if alive := visitor.get(t, "/alive.txt"); alive.body != "alive" {
				t.Fatalf("%d %q", alive.status, alive.body)
			}
		}
		if n := d.Metric("daemon_active_streams"); n != clients {
			t.Errorf("%v streams are open after all this, want %d", n, clients)
		}
		readOn()
		all.Wait()
		d.AwaitMetric("daemon_active_connections", 0)
		if n := d.Metric("daemon_handoffs_total"); n != clients {
			t.Errorf("%v handoffs for %d clients", n, clients)
		}
	})
}

// words is how many events the demo has for a client without a prompt.
const words = 5

var ticketPath = regexp.MustCompile(`^/stream-handoff/\d+/[0-9a-f]{32}$`)

// ticket asks PHP for one and gives the path that it leads to.
func ticket(t testing.TB, b *browser) string {
	t.Helper()
	direct := *b
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	a := direct.get(t, "/stream")
	if path := a.header.Get("Location"); a.status != http.StatusSeeOther || !ticketPath.MatchString(path) {
		t.Fatalf("%d %v", a.status, a.header)
	}
	return a.header.Get("Location")
}

// Who may not have a stream gets none, and who may gets one in every way to ask.
func TestFDPassAsksPHP(t *testing.T) {
	eachMPM(t, func(t *testing.T, mpm apachetest.MPM) {
		d := daemontest.Start(t)
		a := apachetest.Start(t, apachetest.Config{MPM: mpm, Site: "fdpass.conf", Socket: d.FDPass})
		stranger, user := newBrowser(t, a, ""), newBrowser(t, a, a.SignIn("42"))

		// A ticket of long ago is good until the first of a new period clears up.
		const old = "/stream-handoff/1/00112233445566778899aabbccddeeff"
		if err := os.MkdirAll(filepath.Join(a.Root, "tickets", "1"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(a.Root, "tickets", "1"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(a.Root, "tickets", strings.TrimPrefix(old, "/stream-handoff/")), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if got := stranger.get(t, old); !got.complete(words) {
			t.Errorf("with a ticket: %+v", got)
		}
		path := ticket(t, user)
		for _, tt := range []struct {
			name   string
			r      *http.Request
			status int
		}{
			{"nobody", stranger.request("GET", "/stream", ""), 401},
			{"a session that does not exist", stranger.request("GET", "/stream", "", "Cookie", "PHPSESSID=abcdefghijklmnopqrstuvwxyz"), 401},
			{"a page of another site", user.request("GET", "/stream", "", "Sec-Fetch-Site", "cross-site"), 403},
			{"no ticket", user.request("GET", "/stream-handoff/", ""), 403},
			{"a ticket that was not made", user.request("GET", path[:len(path)-1]+"x", ""), 403},
			{"a ticket that is another's path", user.request("GET", "/stream-handoff/1/../../php/ticket.php", ""), 404},
			{"a ticket with a path behind it", user.request("GET", path+"/x", ""), 403},
			{"a ticket of long ago", user.request("GET", old, ""), 403},
			{"HEAD", user.request("HEAD", path, ""), 403},
			{"PUT", user.request("PUT", path, ""), 403},
		} {
			before := d.Metric("daemon_connections_total")
			if got := user.ask(t, tt.r); got.status != tt.status || got.events != nil ||
				strings.HasPrefix(got.header.Get("Content-Type"), "text/event-stream") {
				t.Errorf("%s: %+v, want status %d", tt.name, got, tt.status)
			}
			if n := d.Metric("daemon_connections_total") - before; n != 0 {
				t.Errorf("%s: the daemon was asked %v times", tt.name, n)
			}
		}
		for _, tt := range []struct {
			name string
			r    *http.Request
		}{
			{"EventSource", user.request("GET", "/stream?prompt=hi", "", "Accept", "text/event-stream", "Sec-Fetch-Site", "same-origin")},
			{"fetch", user.request("POST", "/stream", `{"prompt":"hi"}`, "Content-Type", "application/json")},
			{"ticket", user.request("GET", path, "")},
			// P-12: nobody reads this body, and the client must not lose the end of its stream over it.
			{"POST with a large body", user.request("POST", path, strings.Repeat("x", 200<<10))},
		} {
			got := user.ask(t, tt.r)
			if !got.complete(words) || got.header.Get("Cache-Control") != "no-store" || got.header.Get("Connection") != "" && got.header.Get("Connection") != "close" {
				t.Errorf("%s: %+v", tt.name, got)
			}
		}
	})
}

// The listener of fdpass.yaml gives the payload that mod_proxy_fdpass cannot.
func TestFDPassDefaults(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(apachetest.Deploy(t), "apache", "fdpass.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir := daemontest.Dir(t)
	socket, file := filepath.Join(dir, "listed"), filepath.Join(dir, "fdpass.yaml")
	here := strings.NewReplacer("/run/streaming-daemon/fdpass.sock", socket, "mode: 0660", "mode: 0666")
	if err := os.WriteFile(file, []byte(here.Replace(string(text))), 0o644); err != nil {
		t.Fatal(err)
	}
	d := daemontest.Start(t, "-config", file)
	withDefaults := apachetest.Start(t, apachetest.Config{MPM: apachetest.Prefork, Site: "fdpass.conf", Socket: socket})
	without := apachetest.Start(t, apachetest.Config{MPM: apachetest.Prefork, Site: "fdpass.conf", Socket: d.FDPass})
	for want, a := range map[string]*apachetest.Apache{
		"Hello! You said: This stream came through mod_proxy_fdpass.": withDefaults,
		"Hello! You sent no prompt.":                                  without,
	} {
		user := newBrowser(t, a, a.SignIn("42"))
		if got := textOf(t, user.get(t, "/stream").events); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// P-16. Goal: the connections that cannot be handed over as they are, with TLS or HTTP/2 inside, are refused by Apache,
// so that the daemon sees HTTP/1.1 alone. mod_proxy_fdpass would pass them on, so it is the configuration that refuses;
// mod_socket_handoff does it itself. Method: a real client of each kind, with a ticket.
func TestFDPassRefusesTLSAndHTTP2(t *testing.T) {
	t.Parallel()
	d := daemontest.Start(t)
	certificate, roots := newCertificate(t)
	a := apachetest.Start(t, apachetest.Config{MPM: apachetest.Event, Site: "fdpass.conf", Socket: d.FDPass,
		Modules: []string{"socache_shmcb", "ssl", "http2"}, Extra: tlsSite(certificate) + "Protocols h2c http/1.1\n"})
	user := newBrowser(t, a, a.SignIn("42"))
	path := ticket(t, user)
	for name, client := range map[string]*browser{"TLS": overTLS(t, user, a, roots), "HTTP/2": overHTTP2(t, user)} {
		if alive := client.get(t, "/alive.txt"); alive.body != "alive" {
			t.Fatalf("%s: %+v", name, alive)
		}
		if got := client.get(t, path); got.status != http.StatusForbidden {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := user.get(t, path); !got.complete(words) {
		t.Errorf("neither: %+v", got)
	}
	if n := d.Metric("daemon_connections_total"); n != 1 {
		t.Errorf("%v handoffs, want that of the plain client", n)
	}
}

// What a client reads when there is no room, and when there is no daemon.
func TestFDPassRefusals(t *testing.T) {
	t.Parallel()
	d := daemontest.Start(t, "-max-connections", "1", "-demo-delay", "1h", "-demo-messages", "2")
	a := apachetest.Start(t, apachetest.Config{MPM: apachetest.Event, Site: "fdpass.conf", Socket: d.FDPass})
	user := newBrowser(t, a, a.SignIn("42"))
	first, err := user.Do(user.request(http.MethodGet, "/stream", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	if _, err := io.ReadFull(first.Body, make([]byte, len(demo.Message))); err != nil {
		t.Fatal(err)
	}
	// The head, with its 200, was Apache's.
	if got := user.get(t, "/stream"); got.status != 200 || len(got.events) != 1 || got.events[0].name != "error" ||
		!strings.Contains(got.events[0].data, `too many streams`) {
		t.Errorf("no room: %+v", got)
	}
	nobody := apachetest.Start(t, apachetest.Config{MPM: apachetest.Event, Site: "fdpass.conf", Socket: d.FDPass + "-not"})
	user = newBrowser(t, nobody, nobody.SignIn("42"))
	if got := user.get(t, "/stream"); got.status != 500 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
		t.Errorf("no daemon: %+v", got)
	}
	if log := nobody.Log("error.log"); !strings.Contains(log, "Failed to connect to '"+d.FDPass+"-not'") {
		t.Errorf("Apache's log does not say which socket it tried:\n%s", log)
	}
}
