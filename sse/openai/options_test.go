package openai_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai"
	"streaming-daemon-go/sse/openai/upstream"
)

// TestSecret: no way of printing shows a secret, as itself or deep within what holds it.
func TestSecret(t *testing.T) {
	o := openai.Options{Profile: openai.Profile{Key: openai.NewSecret(theKey), Headers: []upstream.Field{{Name: "X-Key", Value: theKey}}},
		Profiles: map[string]openai.Profile{"p": {Key: openai.NewSecret(theKey)}}}
	var shown bytes.Buffer
	for _, v := range []any{o.Key, &o.Key, o, &o, struct{ hidden openai.Secret }{o.Key}, o.Headers[0], []any{o.Key}} {
		fmt.Fprintf(&shown, "%v %+v %#v %s %q %x %d\n", v, v, v, v, v, v, v)
	}
	for _, h := range []slog.Handler{slog.NewTextHandler(&shown, nil), slog.NewJSONHandler(&shown, nil)} {
		slog.New(h).Info("options", "key", o.Key, "profiles", o.Profiles, "options", fmt.Sprint(o))
	}
	encoded, err := json.Marshal(map[string]any{"key": o.Key, "profiles": o.Profiles})
	if err != nil {
		t.Fatal(err)
	}
	shown.Write(encoded)
	fmt.Fprint(&shown, fmt.Errorf("wrapped: %v", o.Key))
	for _, secret := range []string{theKey, fmt.Sprintf("%x", theKey), theKey[3:]} {
		if strings.Contains(shown.String(), secret) {
			t.Errorf("%q is in\n%s", secret, shown.String())
		}
	}
	if !strings.Contains(shown.String(), "[secret]") || o.Key.Reveal() != theKey {
		t.Error("nothing was shown at all")
	}
	if none := openai.NewSecret(""); none.IsSet() || none.Reveal() != "" || none.String() != "" {
		t.Error("an empty secret is one")
	}
}

func TestLoadKey(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file, empty, multi := write("key", " "+theKey+"\n"), write("empty", " \n"), write("multi", theKey+"\nmore")
	for _, tt := range []struct {
		env, file string
		want      string
		fails     bool
	}{
		{theKey, "", theKey, false},
		{"", file, theKey, false},
		{"", "", "", false},
		{theKey, file, "", true},
		{"", dir + "/none", "", true},
		{"", empty, "", true},
		{"", multi, "", true},
		{theKey + "\r\nX: y", "", "", true},
		{strings.Repeat(theKey, 2000), "", "", true},
	} {
		env := map[string]string{"K": tt.env, "F": tt.file}
		key, err := openai.LoadKey(func(name string) string { return env[name] }, "K", "F")
		if (err != nil) != tt.fails || key.Reveal() != tt.want {
			t.Errorf("%.30q, %q: %v, set %v", tt.env, tt.file, err, key.IsSet())
		}
		if err != nil && strings.Contains(err.Error(), theKey) {
			t.Errorf("the key is in %v", err)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, tt := range []struct {
		base, socket string
		want         string // host path, "" for an error
	}{
		{"", "", "api.openai.com /v1/chat/completions"},
		{"http://127.0.0.1:8080/v1", "", "127.0.0.1 /v1/chat/completions"},
		{"http://h/v1/", "", "h /v1/chat/completions"},
		{"http://h", "", "h /chat/completions"},
		{"http://[::1]:80/a%20b", "", "::1 /a%20b/chat/completions"},
		{"https://x.example/openai/deployments/d?api-version=1", "", "x.example /openai/deployments/d/chat/completions?api-version=1"},
		{"", "/run/s", "localhost /v1/chat/completions"},
		{"http://name/v2", "/run/s", "name /v2/chat/completions"},
		{"https://name/v2", "/run/s", ""},
		{"ftp://h", "", ""}, {"h:80", "", ""}, {"http://", "", ""}, {"http://h:0", "", ""}, {"http://h:65536", "", ""}, {"http://h/#x", "", ""},
		{"http://user:" + theKey + "@h/", "", ""}, {"http://h:" + theKey + "/", "", ""}, {"\x7f" + theKey, "", ""},
	} {
		host, path, err := openai.Endpoint(openai.Profile{Base: tt.base, Socket: tt.socket})
		if got := host + " " + path; (err != nil) != (tt.want == "") || err == nil && got != tt.want {
			t.Errorf("%q, %q: %q, %v", tt.base, tt.socket, got, err)
		}
		if err != nil && strings.Contains(err.Error(), theKey) {
			t.Errorf("the base is in %v", err)
		}
	}
}

// TestNewRefuses what cannot work, and leaves nothing behind.
func TestNewRefuses(t *testing.T) {
	fdtest.NoLeaks(t)
	pool, err := loop.NewPool(1)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	field := func(name, value string) openai.Profile {
		return openai.Profile{Base: "http://h", Headers: []upstream.Field{{Name: name, Value: value}}}
	}
	for name, o := range map[string]openai.Options{
		"a negative timeout":    {Profile: openai.Profile{Base: "http://h"}, IdleTimeout: -1},
		"a negative limit":      {Profile: openai.Profile{Base: "http://h"}, MaxUpstreamStreams: -1},
		"a header's CR":         {Profile: field("X", theKey+"\r\nY: z")},
		"a header's name":       {Profile: field("X Y", theKey)},
		"Host":                  {Profile: field("host", theKey)},
		"Content-Length":        {Profile: field("Content-Length", "1")},
		"a key header":          {Profile: openai.Profile{Base: "http://h", Key: openai.NewSecret(theKey), KeyHeader: "Host"}},
		"extra, not JSON":       {Profile: openai.Profile{Base: "http://h", Extra: []byte("{")}},
		"extra, no object":      {Profile: openai.Profile{Base: "http://h", Extra: []byte("7")}},
		"extra.stream":          {Profile: openai.Profile{Base: "http://h", Extra: []byte(`{"stream":false}`)}},
		"a setting's type":      {Profile: openai.Profile{Base: "http://h", MaxTokens: []byte(`"5"`)}},
		"a setting, not JSON":   {Profile: openai.Profile{Base: "http://h", Stop: []byte(`"5`)}},
		"the second profile":    {Profile: openai.Profile{Base: "http://h"}, Profiles: map[string]openai.Profile{"p": {Base: "nonsense"}}},
		"too long a model name": {Profile: openai.Profile{Base: "http://h", Model: strings.Repeat("x", 300)}},
	} {
		_, err := openai.New(o, pool)
		if err == nil || strings.Contains(err.Error(), theKey) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openai.New(openai.Options{Profile: field("Content-Length", "1")}, pool); !errors.Is(err, sse.ErrReservedHeader) {
		t.Error(err)
	}
}

func TestParseProfiles(t *testing.T) {
	env := map[string]string{"AZURE_KEY": theKey}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(theKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := openai.ParseProfiles([]byte(`{
		"fast":  {"model": "small", "max_tokens": 5, "temperature": 0, "top_p": 1, "stop": "x", "extra": {"seed": 1}, "system": "s"},
		"local": {"socket": "/run/s", "relay": "raw", "h2c": true, "insecure_tls": true, "api_key_file": "`+file+`"},
		"azure": {"base": "https://x/d?v=1", "api_key_env": "AZURE_KEY", "key_header": "api-key", "headers": {"B": "2", "A": "1"}, "relay": "simple"}}`),
		func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	fast, local, azure := got["fast"], got["local"], got["azure"]
	if fast.Model != "small" || fast.System != "s" || string(fast.MaxTokens) != "5" || string(fast.Temperature) != "0" ||
		string(fast.TopP) != "1" || string(fast.Stop) != `"x"` || string(fast.Extra) != `{"seed": 1}` || fast.Relay != openai.ModeUnset {
		t.Errorf("%+v", fast)
	}
	if local.Socket != "/run/s" || local.Relay != openai.Raw || !local.PriorH2 || !local.InsecureTLS || local.Key.Reveal() != theKey {
		t.Errorf("%+v", local)
	}
	if azure.Base != "https://x/d?v=1" || azure.KeyHeader != "api-key" || azure.Key.Reveal() != theKey || azure.Relay != openai.Simple ||
		len(azure.Headers) != 2 ||
		azure.Headers[0] != (upstream.Field{Name: "A", Value: "1", Secret: true}) || azure.Headers[1].Name != "B" {
		t.Errorf("%+v", azure)
	}
	for _, bad := range []string{``, `[]`, `{"p":{"modle":"x"}}`, `{"p":{"relay":"both"}}`, `{"p":{"api_key_env":"NONE"}}`,
		`{"p":{"api_key_env":"AZURE_KEY","api_key_file":"x"}}`, `{"p":{"api_key_file":"/nowhere/x"}}`, `{"p":{"max_tokens":}}`} {
		if _, err := openai.ParseProfiles([]byte(bad), func(name string) string { return env[name] }); err == nil || strings.Contains(err.Error(), theKey) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for v, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "0": 0, "-1": 0, "1.5": 0, "x": 0, "99999": time.Hour, "99999999999999999999": 0,
		"Fri, 02 Jan 2026 03:04:35 GMT": 30 * time.Second, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Fri, 02 Jan 2027 03:04:35 GMT": time.Hour,
	} {
		if got := openai.ParseRetryAfter(v, now); got != want {
			t.Errorf("%q: %v, want %v", v, got, want)
		}
	}
}

func TestErrorCode(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":{"code":"model_not_found","type":"x"}}`: "model_not_found", `{"error":{"code":404,"type":"not_found"}}`: "not_found",
		`{"error":{"code":"Has Spaces","type":"sk-abc"}}`: "", `{"error":"text"}`: "", `{`: "", ``: "", `[]`: "",
		`{"error":{"code":"` + strings.Repeat("x", 49) + `"}}`: "",
	} {
		if got := openai.ErrorCode([]byte(body)); got != want {
			t.Errorf("%s: %q, want %q", body, got, want)
		}
	}
}

func TestIsEventStream(t *testing.T) {
	for v, want := range map[string]bool{"text/event-stream": true, "Text/Event-Stream ; charset=utf-8": true, "": true, "text/event-streams": false, "application/json": false} {
		if got := openai.IsEventStream([]byte(v)); got != want {
			t.Errorf("%q: %v", v, got)
		}
	}
}

// TestReasons: every reason has a word of its own, and what a client is told.
func TestReasons(t *testing.T) {
	words := map[string]bool{}
	for r := openai.None; r < openai.NumReasons; r++ {
		word := r.String()
		if word == "" || words[word] {
			t.Errorf("reason %d is %q", r, word)
		}
		words[word] = true
	}
	if openai.NumReasons.String() != "internal" {
		t.Error(openai.NumReasons)
	}
}
