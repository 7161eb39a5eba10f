package main_test

import (
	"encoding/json"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	client "github.com/openai/openai-go/v3"

	"streaming-daemon-go/sse/openai"
)

// Goal: what we ask the upstream is what the API's makers understand by it. Method: the body that arrived is decoded
// into the request of their own client, looked at there, and encoded again, which must lose nothing.
func TestRequestsInTheOfficialTypes(t *testing.T) {
	r := newRig(t, routes[0], openai.Options{Profile: openai.Profile{
		System: "by default", MaxTokens: json.RawMessage("64"), Extra: json.RawMessage(`{"user":"u1"}`)}})
	for _, tt := range []struct {
		name, payload string
		check         func(p client.ChatCompletionNewParams) bool
	}{
		{"a prompt", `{"prompt":"say \u00e4\ud83d\ude00\n"}`, func(p client.ChatCompletionNewParams) bool {
			return p.Model == "m-1" && len(p.Messages) == 2 && *p.Messages[0].GetRole() == "system" &&
				p.Messages[0].OfSystem.Content.OfString.Value == "by default" &&
				p.Messages[1].OfUser.Content.OfString.Value == "say ä😀\n" && p.MaxTokens.Value == 64 && p.User.Value == "u1"
		}},
		{"every setting", `{"prompt":"x","model":"other","system":"be \"brief\"","max_tokens":7,"temperature":0.5,"top_p":0.25,"stop":["a","\n"],
			"extra":{"seed":3,"n":1,"stream_options":{"include_usage":true},"response_format":{"type":"json_object"},"user":"u2"}}`,
			func(p client.ChatCompletionNewParams) bool {
				return p.Model == "other" && p.Messages[0].OfSystem.Content.OfString.Value == `be "brief"` && p.MaxTokens.Value == 7 &&
					p.Temperature.Value == 0.5 && p.TopP.Value == 0.25 && reflect.DeepEqual(p.Stop.OfStringArray, []string{"a", "\n"}) &&
					p.Seed.Value == 3 && p.N.Value == 1 && p.StreamOptions.IncludeUsage.Value && p.ResponseFormat.OfJSONObject != nil && p.User.Value == "u2"
			}},
		{"a history", `{"messages":[{"role":"user","content":"q"},{"role":"assistant","tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
			{"role":"tool","tool_call_id":"c1","content":"42"},{"role":"user","content":[{"type":"text","text":"and this?"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AA==","detail":"low"}}]}],
			"system":"s","stop":"END","extra":{"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"a":{"type":"integer"}}}}}],"tool_choice":"auto"}}`,
			func(p client.ChatCompletionNewParams) bool {
				parts := p.Messages[4].OfUser.Content.OfArrayOfContentParts
				return len(p.Messages) == 5 && p.Messages[2].OfAssistant.ToolCalls[0].OfFunction.Function.Arguments == `{"a":1}` &&
					p.Messages[3].OfTool.ToolCallID == "c1" && parts[1].OfImageURL.ImageURL.Detail == "low" && p.Stop.OfString.Value == "END" &&
					p.Tools[0].OfFunction.Function.Name == "f" && p.ToolChoice.OfAuto.Value == "auto"
			}},
	} {
		if head, body := r.ask(tt.payload); !strings.HasPrefix(head, "HTTP/1.1 200 ") || !strings.HasSuffix(body, "data: [DONE]\n\n") {
			t.Errorf("%s: the upstream refused it: %q %q", tt.name, head, body)
			continue
		}
		r.mu.Lock()
		sent := r.bodies[len(r.bodies)-1]
		r.mu.Unlock()
		var params client.ChatCompletionNewParams
		if err := json.Unmarshal(sent, &params); err != nil {
			t.Errorf("%s: %v: %s", tt.name, err, sent)
			continue
		}
		if !tt.check(params) {
			t.Errorf("%s: %s reads as %+v", tt.name, sent, params)
		}
		again, err := json.Marshal(params)
		if err != nil {
			t.Fatal(err)
		}
		was, is := object(t, sent), object(t, again)
		if was["stream"] != true {
			t.Errorf("%s: not a request for a stream: %s", tt.name, sent)
		}
		delete(was, "stream") // the client's streaming call sets it, it is no field of the type
		delete(is, "stream")
		if !reflect.DeepEqual(was, is) {
			t.Errorf("%s: %s is, in the client's terms, %s", tt.name, sent, again)
		}
	}
}

func object(t *testing.T, b []byte) (o map[string]any) {
	t.Helper()
	if err := json.Unmarshal(b, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// The client library is for tests: nothing that is built may have it in.
func TestOfficialClientIsForTestsOnly(t *testing.T) {
	list := func(args ...string) string {
		out, err := exec.Command("go", append([]string{"list", "-deps"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	const library = "github.com/openai/openai-go"
	if strings.Contains(list("streaming-daemon-go/..."), library) {
		t.Errorf("a program imports %s", library)
	}
	if !strings.Contains(list("-test", "."), library) {
		t.Error("not found where it is: the test looks at the wrong place")
	}
}
