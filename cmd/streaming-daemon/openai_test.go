package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse/openai"
)

// apiKey must be seen nowhere but by the upstream.
const apiKey = "sk-do-not-show-this-key"

// upstream is an API for the daemon to ask, until the end of the test.
type upstream struct {
	*mock.Server
	base, socket string
}

// newUpstream listens as mock.Server's schemes say. It takes requests with the key only.
func newUpstream(t *testing.T, scheme string) *upstream {
	t.Helper()
	server, err := mock.New(mock.Config{Key: apiKey})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	u := &upstream{Server: server}
	addr := "127.0.0.1:0"
	if scheme == mock.Unix {
		u.socket = filepath.Join(shortDir(t), "api")
		addr = u.socket
	}
	if u.base, err = server.Listen(scheme, addr); err != nil {
		t.Fatal(err)
	}
	return u
}

// scripted is a payload that the mock answers by a script; more are further members of the payload.
func scripted(t testing.TB, script mock.Script, more map[string]any) string {
	t.Helper()
	payload := map[string]any{"prompt": "hi there", "extra": map[string]any{"mock": script}}
	for name, value := range more {
		payload[name] = value
	}
	b, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// completion joins the text of an answer and fails the test unless it ended well.
func completion(t testing.TB, a answer) string {
	t.Helper()
	if !a.complete() {
		t.Fatalf("no whole stream: %d %q, %v", a.status, a.body, a.err)
	}
	var text strings.Builder
	for _, e := range a.events {
		var content struct{ Content string }
		if e.name == "" && e.data != "[DONE]" {
			if err := json.Unmarshal([]byte(e.data), &content); err != nil {
				t.Fatal(err)
			}
			text.WriteString(content.Content)
		}
	}
	return text.String()
}

// Goal: the daemon relays completions, tells the truth about them in its metrics, answers 502 when the upstream is
// gone, and shows its key to nobody but the upstream. Method: the whole of it against an API that takes requests with
// the key only, over TCP, over a Unix socket and over TLS, each set by the names that users of such daemons know; then every
// place that shows something is searched for the key.
func TestOpenAI(t *testing.T) {
	t.Parallel()
	for _, scheme := range []string{mock.Plain, mock.Unix, mock.Secure} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			api := newUpstream(t, scheme)
			env := []string{"OPENAI_API_BASE=" + api.base}
			if api.socket != "" {
				env = []string{"OPENAI_API_SOCKET=" + api.socket}
			}
			keyFile := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(keyFile, []byte(apiKey+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if scheme == mock.Secure {
				env = append(env, "SSL_CERT_FILE="+certificate(t, api))
			}
			if scheme == mock.Unix {
				env = append(env, "OPENAI_API_KEY_FILE="+keyFile)
			} else {
				env = append(env, "OPENAI_API_KEY="+apiKey)
			}
			accessLog := filepath.Join(t.TempDir(), "access.log")
			args := []string{"-backend", "openai", "-default-model", "m-1", "-log-level", "debug", "-access-log", accessLog}
			d := launch(t, setup{args: args, env: env})
			d.awaitLog("ready")
			before := d.scrape()
			for r := openai.None + 1; r < openai.NumReasons; r++ {
				name := fmt.Sprintf("daemon_backend_errors_total{backend=%q,reason=%q}", "openai", r)
				if v, ok := before[name]; !ok || v != 0 {
					t.Errorf("%s is %v (there: %t) before the first completion", name, v, ok)
				}
			}
			scripts := []mock.Script{
				{Text: "words", Events: 40},
				{Text: "surrogates", Escape: "ascii", Events: 9, WriteBytes: 7},
				{Text: "quotes", Events: 24, Framing: "close"},
			}
			var tokens int
			const rounds = 4
			for range rounds {
				for _, script := range scripts {
					for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket} {
						if got, want := completion(t, d.ask(kind, scripted(t, script, nil))), script.Whole("hi there"); got != want {
							t.Fatalf("%v: %q, want %q", kind, got, want)
						}
						tokens += script.Events
					}
				}
			}
			whole := float64(rounds * len(scripts) * 2)
			bad := d.ask(fdrecv.KindStream, `{"prompt":"hi","temperature":"warm"}`)
			if bad.refused(t, http.StatusBadRequest); !strings.Contains(string(bad.body), "temperature") {
				t.Errorf("the refusal does not name the field: %s", bad.body)
			}
			limited := d.ask(fdrecv.KindStream, scripted(t, mock.Script{Status: http.StatusTooManyRequests, RetryAfter: "7"}, nil))
			if limited.refused(t, http.StatusTooManyRequests); limited.header.Get("Retry-After") != "7" {
				t.Errorf("head %v", limited.header)
			}
			cut := d.ask(fdrecv.KindStream, scripted(t, mock.Script{Cut: mock.CutEnd, CutAt: 500}, nil))
			if cut.status != http.StatusOK || cut.last().name != "error" {
				t.Errorf("an upstream that ends early: %d %q", cut.status, cut.body)
			}
			eventually(t, "the upstream to be idle", func() bool { return api.Stats().Open == 0 })
			streams := d.get(strings.TrimSuffix(d.metricsURL(), "/metrics") + "/streams")

			api.Close()
			for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket} {
				d.ask(kind, scripted(t, mock.Script{}, nil)).refused(t, http.StatusBadGateway)
			}
			d.awaitMetric("daemon_active_connections", 0)
			samples := d.scrape()
			for name, want := range map[string]float64{
				`daemon_backend_requests_total{backend="openai"}`:                     whole + 5,
				`daemon_backend_errors_total{backend="openai",reason="bad_payload"}`:  1,
				`daemon_backend_errors_total{backend="openai",reason="rate_limited"}`: 1,
				`daemon_backend_errors_total{backend="openai",reason="cut"}`:          1,
				`daemon_backend_errors_total{backend="openai",reason="connect"}`:      2,
				`daemon_backend_errors_total{backend="openai",reason="canceled"}`:     0,
				`daemon_backend_errors_total{backend="openai",reason="broken"}`:       0,
				`daemon_backend_duration_seconds_count`:                               whole + 4, // but for the bad payload
				`daemon_backend_ttfb_seconds_count`:                                   whole + 2, // and those whose upstream was gone
				`daemon_upstream_streams`:                                             0,
				`daemon_upstream_connections{state="open"}`:                           0,
				`daemon_upstream_connections{state="idle"}`:                           0,
			} {
				if got := samples[name]; got != want {
					t.Errorf("%s is %v, want %v", name, got, want)
				}
			}
			// What came of the stream that was cut short counts too.
			if got := samples[`daemon_backend_tokens_total{backend="openai"}`]; got != float64(tokens+len(cut.events)-1) {
				t.Errorf("%v tokens, want %d and the %d of the stream that was cut", got, tokens, len(cut.events)-1)
			}

			config := exec.Command(binary, append([]string{"config"}, d.cmd.Args[1:]...)...)
			config.Env = d.cmd.Env
			shown, warned, code := runOnce(t, config)
			if code != 0 || !strings.Contains(shown, "openai-base:") {
				t.Errorf("config: %d %s", code, warned)
			}
			argv, err := os.ReadFile("/proc/" + d.pid() + "/cmdline")
			if err != nil {
				t.Fatal(err)
			}
			page := d.get(d.metricsURL())
			d.signal(syscall.SIGTERM)
			if code := d.wait(); code != 0 {
				t.Errorf("exit code %d", code)
			}
			access, err := os.ReadFile(accessLog)
			if err != nil {
				t.Fatal(err)
			}
			checkUpstreams(t, access, map[int]int{200: int(whole) + 1, 429: 1, 0: 3})
			if strings.Contains(scheme, "http") && !strings.Contains(strings.Join(d.cmd.Env, "\n"), apiKey) {
				t.Error("the test needs a key to look for")
			}
			for where, text := range map[string]string{"/metrics": page, "/streams": streams, "config": shown + warned,
				"its arguments": string(argv), "the log": d.log.String(), "the access log": string(access), "a refusal": string(bad.body) + string(limited.body) + string(cut.body)} {
				if text == "" {
					t.Errorf("%s is empty: nothing was searched", where)
				}
				if strings.Contains(text, apiKey) {
					t.Errorf("the key is in %s:\n%s", where, text)
				}
			}
		})
	}
}

// checkUpstreams holds the upstream's part of an access log to how many completions had which status; 0: the upstream
// was not reached, and there is no such part.
func checkUpstreams(t testing.TB, log []byte, want map[int]int) {
	t.Helper()
	got := map[int]int{}
	for line := range bytes.Lines(log) {
		var l struct {
			Duration  float64  `json:"duration_seconds"`
			Events    int      `json:"events"`
			Status    int      `json:"upstream_status"`
			FirstByte *float64 `json:"upstream_first_byte_seconds"`
			Took      *float64 `json:"upstream_seconds"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		got[l.Status]++
		if l.Status == 0 {
			if l.FirstByte != nil || l.Took != nil {
				t.Errorf("times of an upstream that did not answer: %s", line)
			}
		} else if l.FirstByte == nil && l.Events == 0 && l.Took != nil {
			continue // the client left between the upstream's head and its first byte
		} else if l.FirstByte == nil || l.Took == nil || *l.FirstByte > *l.Took || *l.Took > l.Duration {
			t.Errorf("the upstream's times do not fit the stream's: %s", line)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("completions by the upstream's status: %v, want %v", got, want)
	}
}

// Goal: a payload chooses among the backends that are configured, a listener's default is its own, and a name that is
// not known is the client's fault and told. Method: each backend has another text for the same prompt.
func TestBackendByPayload(t *testing.T) {
	t.Parallel()
	api := newUpstream(t, mock.Plain)
	dir := shortDir(t)
	own := filepath.Join(dir, "own")
	file := filepath.Join(dir, "sd.yaml")
	err := os.WriteFile(file, []byte("listeners:\n- {path: "+own+", type: fdpass, defaults: {backend: openai, payload: {prompt: hi there}}}\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	d := launch(t, setup{args: []string{"-config", file, "-openai-base", api.base, "-default-model", "m-1"}, env: []string{"OPENAI_API_KEY=" + apiKey}})
	d.awaitLog("ready")
	fromAPI, fromDemo := mock.Script{}.Whole("hi there"), "Hello! You said: hi there"
	for backend, want := range map[string]string{``: fromDemo, `,"backend":null`: fromDemo, `,"backend":"demo"`: fromDemo,
		`,"backend":"openai"`: fromAPI, `,"b\u0061ckend":"openai"`: fromAPI} {
		if got := completion(t, d.ask(fdrecv.KindSeqpacket, `{"prompt":"hi there"`+backend+`}`)); got != want {
			t.Errorf("%s: %q, want %q", backend, got, want)
		}
	}
	for _, backend := range []string{`"nope"`, `""`, `7`, `{"a":1}`, `"OpenAI"`} {
		a := d.ask(fdrecv.KindStream, `{"prompt":"hi there","backend":`+backend+`,"response_headers":{"X-Mine":"1"}}`)
		if a.refused(t, http.StatusBadRequest); !strings.Contains(string(a.body), "backend ") || a.header.Get("X-Mine") != "1" {
			t.Errorf("%s: %v %s", backend, a.header, a.body)
		}
	}
	samples := d.scrape()
	for name, want := range map[string]float64{
		`daemon_backend_requests_total{backend="openai"}`: 2,
		`daemon_handoffs_total`:                           5,
		`daemon_handoff_errors_total{reason="other"}`:     5,
		`daemon_connections_rejected_total`:               5,
		`daemon_active_streams`:                           0,
		`daemon_time_to_first_byte_seconds_count`:         5,
	} {
		if got, ok := samples[name]; !ok || got != want {
			t.Errorf("%s is %v (there: %t), want %v", name, got, ok, want)
		}
	}

	// A listener's own default, for handoffs that bring nothing.
	d.dir = dir
	if err := os.Symlink(own, d.path(fdrecv.KindFDPass)); err != nil {
		t.Fatal(err)
	}
	if got := completion(t, d.ask(fdrecv.KindFDPass, "")); got != fromAPI {
		t.Errorf("over the listener with a default of its own: %q, want %q", got, fromAPI)
	}

	// What is nobody's default and has no settings is not there to be chosen.
	alone := launch(t, setup{args: []string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1"}})
	alone.awaitLog("ready")
	alone.ask(fdrecv.KindStream, `{"prompt":"x","backend":"demo"}`).refused(t, http.StatusBadRequest)
	demo := start(t)
	demo.ask(fdrecv.KindStream, `{"prompt":"x","backend":"openai"}`).refused(t, http.StatusBadRequest)
	if page := demo.get(demo.metricsURL()); strings.Contains(page, "daemon_backend_") {
		t.Error("the page has metrics of a backend that is not configured")
	}
}

// A drain lets completions finish.
func TestDrainLetsCompletionsFinish(t *testing.T) {
	t.Parallel()
	api := newUpstream(t, mock.Plain)
	d := launch(t, setup{args: []string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1"}, env: []string{"OPENAI_API_KEY=" + apiKey}})
	d.awaitLog("ready")
	script := mock.Script{Text: "words", Events: 30, Delay: mock.Duration(40 * time.Millisecond)}
	var readers []*bufio.Reader
	var clients []*net.TCPConn
	for range 8 {
		client := d.handOver(fdrecv.KindStream, scripted(t, script, nil))
		_ = client.SetReadDeadline(time.Now().Add(patience))
		r := bufio.NewReader(client)
		for line := ""; !strings.HasPrefix(line, "data: "); { // it is under way
			var err error
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatalf("%q, %v", line, err)
			}
		}
		readers, clients = append(readers, r), append(clients, client)
	}
	d.signal(syscall.SIGTERM)
	d.awaitLog("draining")
	for i, r := range readers {
		var last, text string
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				break
			}
			if strings.HasPrefix(line, "data: ") {
				last = strings.TrimSpace(line)
			}
			text += line
		}
		if last != "data: [DONE]" || !strings.Contains(text, `{"finish_reason":"stop"}`) {
			t.Errorf("client %d: its stream ends with %q", i, last)
		}
		_ = clients[i].Close()
	}
	if code := d.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if s := api.Stats(); s.Finished != 8 || s.Cancelled != 0 {
		t.Errorf("the upstream: %+v", s)
	}
}

// Goal: under a limit on open files, what the daemon says that it can carry it does carry, with a connection to the
// upstream for each stream. Method: as many completions at a time as it says, and one more.
func TestTwoDescriptorsPerStream(t *testing.T) {
	t.Parallel()
	api := newUpstream(t, mock.Plain)
	args := []string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1", "-loops", "1"}
	env := []string{"OPENAI_API_KEY=" + apiKey}
	const limit = 1000
	demo := launch(t, setup{args: []string{"-loops", "1"}, wrap: withFiles(limit)})
	demo.awaitLog("ready")
	d := launch(t, setup{args: args, env: env, wrap: withFiles(limit)})
	d.awaitLog("ready")
	alone, places := int(demo.scrape()["daemon_max_connections"]), int(d.scrape()["daemon_max_connections"])
	if places < alone/2-limit/100 || places > alone/2 {
		t.Errorf("%d streams with a connection each, %d without", places, alone)
	}
	bounded := launch(t, setup{args: append(args, "-max-upstream-streams", "50"), env: env, wrap: withFiles(limit)})
	bounded.awaitLog("ready")
	if n := int(bounded.scrape()["daemon_max_connections"]); n < alone-50-limit/100 || n > alone-50 {
		t.Errorf("%d streams, of which 50 may have a connection; %d without", n, alone)
	}
	payload := scripted(t, mock.Script{Events: -1, Delay: mock.Duration(time.Hour)}, nil)
	var held []*net.TCPConn
	for range places {
		held = append(held, d.hold(fdrecv.KindSeqpacket, payload))
	}
	d.ask(fdrecv.KindSeqpacket, payload).refused(t, http.StatusServiceUnavailable)
	samples := d.scrape()
	if samples["daemon_upstream_streams"] != float64(places) || samples[`daemon_upstream_connections{state="open"}`] != float64(places) ||
		samples[`daemon_upstream_connections{state="idle"}`] != 0 {
		t.Errorf("%v streams to upstreams, want %d", samples["daemon_upstream_streams"], places)
	}
	for _, client := range held {
		_ = client.Close()
	}
	// Nobody wants them any more: the upstream hears of it.
	eventually(t, "the upstream's streams to be cancelled", func() bool { return api.Stats().Cancelled == uint64(places) })
	d.awaitMetric(`daemon_backend_errors_total{backend="openai",reason="canceled"}`, float64(places))
}

// Whoever gets the settings of the upstream wrong reads one line, in which there is no key.
func TestOpenAIRefusesToStart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	profiles := filepath.Join(dir, "profiles.json")
	if err := os.WriteFile(profiles, []byte(`{"a":{"base":"http://a/v1","api_key_env":"NO_SUCH_KEY"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	listener := filepath.Join(dir, "sd.yaml")
	err := os.WriteFile(listener, []byte("listeners:\n- {path: "+dir+"/l, type: fdpass, defaults: {payload: {backend: nope}}}\n"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name      string
		args, env []string
		want      []string
		code      int
	}{
		{"a key that no header can hold", nil, []string{"OPENAI_API_KEY=" + apiKey + "\n"}, []string{"OPENAI_API_KEY"}, exitFailed},
		{"two keys", nil, []string{"OPENAI_API_KEY=" + apiKey, "OPENAI_API_KEY_FILE=/x"}, []string{"OPENAI_API_KEY", "OPENAI_API_KEY_FILE"}, exitFailed},
		{"no file of a key", nil, []string{"OPENAI_API_KEY_FILE=" + dir + "/none"}, []string{"OPENAI_API_KEY_FILE", dir + "/none"}, exitFailed},
		{"no file of profiles", []string{"-openai-profiles", dir + "/none"}, nil, []string{"-openai-profiles", dir + "/none"}, exitFailed},
		{"a profile without its key", []string{"-openai-profiles", profiles}, nil, []string{"-openai-profiles", profiles, `"a"`, "NO_SUCH_KEY"}, exitFailed},
		{"no base", nil, []string{"OPENAI_API_BASE=" + apiKey}, []string{"OPENAI_API_BASE", "http or https"}, exitBadArgs},
		{"a listener's payload", []string{"-config", listener}, nil, []string{listener, "listeners[0]", "backend is not known"}, exitFailed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binary, append(append(defaultArgs(shortDir(t)), "-log-level", "error"), tt.args...)...)
			cmd.Env = append(os.Environ(), tt.env...)
			_, stderr, code := runOnce(t, cmd)
			if code != tt.code || strings.Count(stderr, "\n") != 1 || strings.Contains(stderr, apiKey) {
				t.Errorf("exit code %d, want %d: %s", code, tt.code, stderr)
			}
			for _, want := range tt.want {
				if quoted, _ := json.Marshal(want); !strings.Contains(stderr, want) && !strings.Contains(stderr, strings.Trim(string(quoted), `"`)) {
					t.Errorf("%q is not in %q", want, stderr)
				}
			}
		})
	}
}

// certificate writes that of an upstream into a file.
func certificate(t *testing.T, api *upstream) string {
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, api.CertificatePEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A certificate that nobody vouches for is refused; -openai-insecure-tls takes it, and warns at the start.
func TestInsecureTLS(t *testing.T) {
	t.Parallel()
	api := newUpstream(t, mock.Secure)
	args := []string{"-backend", "openai", "-openai-base", api.base, "-default-model", "m-1"}
	strict := launch(t, setup{args: args, env: []string{"OPENAI_API_KEY=" + apiKey}})
	strict.awaitLog("ready")
	strict.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)).refused(t, http.StatusBadGateway)
	strict.awaitMetric(`daemon_backend_errors_total{backend="openai",reason="tls"}`, 1)
	loose := launch(t, setup{args: append(args, "-openai-insecure-tls"), env: []string{"OPENAI_API_KEY=" + apiKey}})
	if w := loose.awaitLog("certificate is NOT verified"); w["level"] != "WARN" {
		t.Errorf("%v", w)
	}
	loose.awaitLog("ready")
	completion(t, loose.ask(fdrecv.KindStream, scripted(t, mock.Script{}, nil)))
}
