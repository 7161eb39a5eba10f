package openai_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"streaming-daemon-go/sse/openai"
	"streaming-daemon-go/sse/stream"
)

// withProfile are options with a setting of each kind.
var withProfile = openai.Options{Profile: openai.Profile{
	Model: "default-model", System: "be kind", MaxTokens: json.RawMessage("100"), Stop: json.RawMessage(`["a", "b"]`),
	Extra: json.RawMessage(` {"user": "u", "seed": 1} `),
}}

// TestRequestBody: the bytes that go upstream for a payload.
func TestRequestBody(t *testing.T) {
	plain := openai.Options{Profile: openai.Profile{Model: "m"}}
	history := `[ {"role":"user","content":[{"type":"text","text":"\u00e9 what?"},{"type":"image_url","image_url":{"url":"data:x"}}]} , {"content":null,"role":"assistant","tool_calls":[]} ]`
	tests := []struct {
		name, payload string
		options       openai.Options
		want          string
	}{
		{"prompt", `{"prompt":"say \"hi\"\n\u2028é"}`, plain, `{"model":"m","stream":true,"messages":[{"role":"user","content":"say \"hi\"\n\u2028é"}]}`},
		{"bytes that are no UTF-8", "{\"prompt\":\"a\xffb\"}", plain, "{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\uFFFDb\"}]}"},
		{"messages untouched", `{"messages":` + history + `}`, plain, `{"model":"m","stream":true,"messages":` + history + `}`},
		{"messages before prompt", `{"prompt":"x","messages":[{"role":"user"}]}`, plain, `{"model":"m","stream":true,"messages":[{"role":"user"}]}`},
		{"system before a prompt", `{"system":"s\u00e9","prompt":"p"}`, plain, `{"model":"m","stream":true,"messages":[{"role":"system","content":"sé"},{"role":"user","content":"p"}]}`},
		{"system before messages", `{"system":"s","messages":[{"role":"user","content":"p"}]}`, plain, `{"model":"m","stream":true,"messages":[{"role":"system","content":"s"},{"role":"user","content":"p"}]}`},
		{"all settings", `{"prompt":"p","model":"other","max_tokens":5,"temperature":0.7,"top_p":1e-1,"stop":"END","extra":{"n":1,"seed":null,"tools":[{"a": 1}]}}`, plain,
			`{"model":"other","stream":true,"messages":[{"role":"user","content":"p"}],"max_tokens":5,"temperature":0.7,"top_p":1e-1,"stop":"END","n":1,"seed":null,"tools":[{"a": 1}]}`},
		{"null is absent", `{"prompt":"p","messages":null,"model":null,"max_tokens":null,"temperature":null,"top_p":null,"stop":null,"extra":null,"system":null}`, plain,
			`{"model":"m","stream":true,"messages":[{"role":"user","content":"p"}]}`},
		{"the last of two counts", `{"prompt":"p","max_tokens":5,"max_tokens":6}`, plain, `{"model":"m","stream":true,"messages":[{"role":"user","content":"p"}],"max_tokens":6}`},
		{"PHP's empty array", `{"prompt":"p","extra":[]}`, plain, `{"model":"m","stream":true,"messages":[{"role":"user","content":"p"}]}`},
		{"unknown fields stay here", `{"prompt":"p","user_id":7,"anything":{}}`, plain, `{"model":"m","stream":true,"messages":[{"role":"user","content":"p"}]}`},
		{"extra over a field", `{"prompt":"p","max_tokens":5,"extra":{"max_tokens":9,"max_completion_tokens":9,"a\"b":1}}`, plain,
			`{"model":"m","stream":true,"messages":[{"role":"user","content":"p"}],"max_tokens":9,"max_completion_tokens":9,"a\"b":1}`},
		{"a profile's settings", `{"prompt":"p"}`, withProfile,
			`{"model":"default-model","stream":true,"messages":[{"role":"system","content":"be kind"},{"role":"user","content":"p"}],"user":"u","seed":1,"max_tokens":100,"stop":["a", "b"]}`},
		{"the payload over a profile", `{"prompt":"p","system":"","max_tokens":1,"extra":{"seed":2}}`, withProfile,
			`{"model":"default-model","stream":true,"messages":[{"role":"user","content":"p"}],"user":"u","seed":2,"max_tokens":1,"stop":["a", "b"]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := openai.RequestBody(tt.options, []byte(tt.payload))
			if err != nil || string(got) != tt.want || !json.Valid(got) {
				t.Errorf("%v\n got %s\nwant %s", err, got, tt.want)
			}
		})
	}
	// What one payload sets must not stay with the profile.
	if got, _ := openai.RequestBody(withProfile, []byte(`{"prompt":"p"}`)); !strings.Contains(string(got), `"seed":1,`) {
		t.Errorf("%s", got)
	}
}

// TestBadRequests: a 400 whose text begins with the field's name, and says nothing of its value.
func TestBadRequests(t *testing.T) {
	many := func(n int, element string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]"
	}
	members := strings.Builder{}
	for i := range 65 {
		fmt.Fprintf(&members, `,"k%d":1`, i)
	}
	tests := []struct{ payload, field string }{
		{``, "prompt or messages"},
		{`{}`, "prompt or messages"},
		{`{"prompt":""}`, "prompt or messages"},
		{`{"messages":"SECRET"}`, "messages"},
		{`{"messages":{}}`, "messages"},
		{`{"messages":[]}`, "messages"},
		{`{"messages":["SECRET"]}`, "messages[0]"},
		{`{"messages":[{"role":"user"},{"content":"SECRET"}]}`, "messages[1].role"},
		{`{"messages":[{"role":7}]}`, "messages[0].role"},
		{`{"messages":[{"role":""}]}`, "messages[0].role"},
		{`{"messages":` + many(4097, `{"role":"u"}`) + `}`, "messages"},
		{`{"prompt":"p","system":["SECRET"]}`, "system"},
		{`{"prompt":"p","model":"` + strings.Repeat("SECRET", 50) + `"}`, "model"},
		{`{"prompt":"p","max_tokens":"5"}`, "max_tokens"},
		{`{"prompt":"p","max_tokens":0}`, "max_tokens"},
		{`{"prompt":"p","max_tokens":1.5}`, "max_tokens"},
		{`{"prompt":"p","max_tokens":-1}`, "max_tokens"},
		{`{"prompt":"p","max_tokens":1e3}`, "max_tokens"},
		{`{"prompt":"p","max_tokens":99999999999999999999}`, "max_tokens"},
		{`{"prompt":"p","temperature":"SECRET"}`, "temperature"},
		{`{"prompt":"p","temperature":2.01}`, "temperature"},
		{`{"prompt":"p","temperature":-0.1}`, "temperature"},
		{`{"prompt":"p","temperature":1e999}`, "temperature"},
		{`{"prompt":"p","temperature":true}`, "temperature"},
		{`{"prompt":"p","top_p":1.1}`, "top_p"},
		{`{"prompt":"p","top_p":[]}`, "top_p"},
		{`{"prompt":"p","stop":5}`, "stop"},
		{`{"prompt":"p","stop":["a",5]}`, "stop"},
		{`{"prompt":"p","stop":` + many(17, `"a"`) + `}`, "stop"},
		{`{"prompt":"p","extra":"SECRET"}`, "extra"},
		{`{"prompt":"p","extra":[1]}`, "extra"},
		{`{"prompt":"p","extra":{"stream":false}}`, "extra.stream"},
		{`{"prompt":"p","extra":{"messages":[]}}`, "extra.messages"},
		{`{"prompt":"p","extra":{"model":"m"}}`, "extra.model"},
		{`{"prompt":"p","extra":{` + members.String()[1:] + `}}`, "extra"},
		{`{"prompt":"p","deep":` + strings.Repeat("[", 300) + strings.Repeat("]", 300) + `}`, "payload"},
	}
	for _, tt := range tests {
		_, err := openai.RequestBody(openai.Options{Profile: openai.Profile{Model: "m"}}, []byte(tt.payload))
		var r *stream.Refusal
		if !errors.As(err, &r) || r.Status != http.StatusBadRequest || !strings.HasPrefix(r.Message, tt.field+" ") || strings.Contains(r.Message, "SECRET") {
			t.Errorf("%.80s: %v, want a refusal that names %s", tt.payload, err, tt.field)
		}
	}
	if _, err := openai.RequestBody(openai.Options{}, []byte(`{"prompt":"p"}`)); err == nil || !strings.Contains(err.Error(), "model is needed") {
		t.Error(err)
	}
}

// FuzzRequest: whatever the payload, what goes upstream is JSON that asks for a stream, with the payload's messages in
// it, or there is a refusal.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"prompt":"p","system":"s","max_tokens":5,"extra":{"a":1,"stop":null}}`))
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"}],"stop":["a"],"temperature":1}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		body, err := openai.RequestBody(withProfile, payload)
		if err != nil {
			return
		}
		var got struct {
			Model    string            `json:"model"`
			Stream   bool              `json:"stream"`
			Messages []json.RawMessage `json:"messages"`
		}
		if err := json.Unmarshal(body, &got); err != nil || !got.Stream || got.Model == "" || len(got.Messages) == 0 {
			t.Fatalf("%q: %q, %v", payload, body, err)
		}
		seen := map[string]int{}
		var in map[string]json.RawMessage
		if json.Unmarshal(payload, &in) == nil && len(in["messages"]) > 0 && in["messages"][0] == '[' {
			var asked []json.RawMessage
			_ = json.Unmarshal(in["messages"], &asked)
			for i, m := range asked {
				if at := len(got.Messages) - len(asked) + i; string(got.Messages[at]) != string(m) {
					t.Fatalf("message %d: %q became %q", i, m, got.Messages[at])
				}
			}
		}
		d := json.NewDecoder(strings.NewReader(string(body)))
		_, _ = d.Token()
		for d.More() {
			name, _ := d.Token()
			if seen[fmt.Sprint(name)]++; seen[fmt.Sprint(name)] > 1 {
				t.Fatalf("%q is in the body twice: %q", name, body)
			}
			var v json.RawMessage
			if d.Decode(&v) != nil {
				return
			}
		}
	})
}
