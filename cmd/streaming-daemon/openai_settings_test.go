package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/fdrecv"
)

// request is one that an upstream got.
type request struct {
	proto  string // "HTTP/1.1"
	header http.Header
	body   map[string]any
}

// recorder is an API that keeps what it is asked; it asks for no key.
type recorder struct {
	base string

	mu   sync.Mutex
	last request // guarded by mu
}

func newRecorder(t *testing.T) *recorder {
	t.Helper()
	r := &recorder{}
	server, err := mock.New(mock.Config{Saw: func(asked *http.Request, body []byte) {
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Errorf("%v in %s", err, body)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last = request{asked.Proto, asked.Header, members}
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if r.base, err = server.Listen(mock.Plain, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recorder) seen() request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// Goal: each setting does what it says, which a setting that is read and then forgotten does not. Method: a daemon for
// each, and the one thing that is not so without it; what the default does instead is the last row's.
func TestOpenAISettings(t *testing.T) {
	t.Parallel()
	profiles := filepath.Join(t.TempDir(), "profiles.json")
	err := os.WriteFile(profiles, []byte(`{"mine": {"model": "m-mine", "headers": {"X-Team": "seven"}, "max_tokens": 12}}`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	const idle = `daemon_upstream_connections{state="idle"}`
	noHead := mock.Script{Head: mock.Duration(time.Hour)}
	ends := func(t *testing.T, a answer, message string) {
		t.Helper()
		if a.err != nil || a.status != http.StatusOK || a.last().name != "error" || !strings.Contains(a.last().data, message) {
			t.Errorf("%d %q, want an error event with %q", a.status, a.body, message)
		}
	}
	for _, tt := range []struct {
		args  []string
		check func(t *testing.T, d *daemon, api *recorder)
	}{
		{[]string{"-openai-relay", "raw"}, func(t *testing.T, d *daemon, _ *recorder) {
			if a := d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)); !a.complete() || !strings.Contains(a.events[0].data, "chat.completion.chunk") {
				t.Errorf("%q", a.body)
			}
		}},
		{[]string{"-head-timeout", "50ms", "-openai-first-byte-timeout", "400ms"}, func(t *testing.T, d *daemon, _ *recorder) {
			ends(t, d.ask(fdrecv.KindStream, scripted(t, noHead, nil)), "did not answer in time")
		}},
		{[]string{"-openai-first-byte-timeout", "100ms"}, func(t *testing.T, d *daemon, _ *recorder) {
			d.ask(fdrecv.KindStream, scripted(t, noHead, nil)).refused(t, http.StatusGatewayTimeout)
		}},
		{[]string{"-openai-idle-timeout", "100ms"}, func(t *testing.T, d *daemon, _ *recorder) {
			ends(t, d.ask(fdrecv.KindStream, scripted(t, mock.Script{Cut: mock.CutStall, CutAt: 600}, nil)), "stopped sending")
		}},
		{[]string{"-openai-total-timeout", "300ms"}, func(t *testing.T, d *daemon, _ *recorder) {
			ends(t, d.ask(fdrecv.KindStream, scripted(t, mock.Script{Events: -1, Delay: mock.Duration(10 * time.Millisecond)}, nil)), "took too long")
		}},
		{[]string{"-max-upstream-streams", "1"}, func(t *testing.T, d *daemon, _ *recorder) {
			d.hold(fdrecv.KindStream, scripted(t, mock.Script{Events: -1, Delay: mock.Duration(time.Hour)}, nil))
			d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)).refused(t, http.StatusServiceUnavailable)
		}},
		{[]string{"-openai-idle-conns", "0"}, func(t *testing.T, d *daemon, _ *recorder) {
			completion(t, d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)))
			d.awaitMetric("daemon_active_connections", 0)
			d.awaitMetric(`daemon_upstream_connections{state="open"}`, 0)
		}},
		{[]string{"-openai-idle-conn-timeout", "300ms"}, func(t *testing.T, d *daemon, _ *recorder) {
			completion(t, d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)))
			d.awaitMetric(idle, 0) // patience is shorter than the default
		}},
		{[]string{"-openai-h2c"}, func(t *testing.T, d *daemon, api *recorder) {
			for range 3 {
				d.hold(fdrecv.KindStream, scripted(t, mock.Script{Events: -1, Delay: mock.Duration(time.Hour)}, nil))
			}
			script := mock.Script{Text: "surrogates", Events: 40}
			if got, want := completion(t, d.ask(fdrecv.KindStream, scripted(t, script, nil))), script.Whole("hi there"); got != want {
				t.Errorf("%q, want %q", got, want)
			}
			if got := api.seen(); got.proto != "HTTP/2.0" || got.header.Get("Authorization") != "Bearer "+apiKey {
				t.Errorf("%v", got)
			}
			if n := d.metric(`daemon_upstream_connections{state="open"}`); n != 1 {
				t.Errorf("%v connections, want one that all share", n)
			}
		}},
		{[]string{"-openai-key-header", "api-key"}, func(t *testing.T, d *daemon, api *recorder) {
			completion(t, d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)))
			if h := api.seen().header; h.Get("Api-Key") != apiKey || h.Get("Authorization") != "" {
				t.Errorf("%v", h)
			}
		}},
		{[]string{"-openai-profiles", profiles}, func(t *testing.T, d *daemon, api *recorder) {
			completion(t, d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, map[string]any{"profile": "mine"})))
			got := api.seen()
			if got.header.Get("X-Team") != "seven" || got.body["model"] != "m-mine" || got.body["max_tokens"] != 12.0 ||
				got.header.Get("Authorization") != "Bearer "+apiKey {
				t.Errorf("%v", got)
			}
			d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, map[string]any{"profile": "yours"})).refused(t, http.StatusBadRequest)
		}},
		{nil, func(t *testing.T, d *daemon, api *recorder) {
			a := d.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil))
			completion(t, a)
			if strings.Contains(string(a.body), "chat.completion.chunk") {
				t.Errorf("raw without being asked: %s", a.body)
			}
			if got := api.seen(); got.proto != "HTTP/1.1" || got.header.Get("Authorization") != "Bearer "+apiKey || got.body["model"] != "m-1" || got.header.Get("X-Team") != "" {
				t.Errorf("%v", got)
			}
			d.awaitMetric(idle, 1)
			d.ask(fdrecv.KindStream, scripted(t, mock.Script{Status: http.StatusInternalServerError}, nil)).refused(t, http.StatusBadGateway)
		}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			api := newRecorder(t)
			d := launch(t, setup{args: append([]string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1", "-shutdown-timeout", "0s"}, tt.args...),
				env: []string{"OPENAI_API_KEY=" + apiKey}})
			d.awaitLog("ready")
			tt.check(t, d, api)
		})
	}
}
