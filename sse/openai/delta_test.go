package openai_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai"
)

// chunks are what servers send, one of a kind each.
var chunks = []string{
	`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","system_fingerprint":"f","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}`,
	`{"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}`,
	`{"choices":[{"delta":{"content":"\u00e9\ud83d\ude00\n\"\\\/\b\f\r\t\u2028 héllo 世界 😀"}}]}`,
	`{"choices":[{"finish_reason":"stop","delta":{},"index":0}],"usage":null}`,
	` { "choices" : [ { "delta" : { "content" : " spaced " } , "index" : 0 } , {"delta":{"content":"second"}} ] } `,
	`{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}`,
	`{"choices":[],"prompt_filter_results":[{"prompt_index":0,"content_filter_results":{"hate":{"filtered":false}}}]}`,
	`{"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":"}}]}}]}`,
	`{"choices":[{"index":0,"delta":{"refusal":"I can't."}}]}`,
	`{"choices":[{"index":1,"delta":{"content":"other"}}]}`,
	`{"error":{"message":"boom","type":"server_error","code":null}}`,
	`{"cho\u0069ces":[{"delta":{"content":"a key with an escape"}}]}`,
	`{"choices":[{"delta":{"content":"lone \ud83d"}}]}`,
	`{"choices":[{"delta":{"content":"twice","content":"the last counts"},"delta":{"content":"here too"}}]}`,
	`{"a":{"choices":[{"delta":{"content":"too deep"}}]},"content":"x","delta":{"content":"y"}}`,
	`{"choices":null}`, `{"choices":[{"delta":null}]}`, `{"choices":[{"delta":{"content":5}}]}`, `{"choices":[5]}`, `{"choices":{}}`,
	`{}`, `[]`, `null`, ``, `{"choices":[{"delta":{"content":"cut`, `{"a":1,}`, `{"a":01}`, `{"a":"` + "\x01" + `"}`, `{"a":"\x"}`, `{} {}`,
}

// reference is parseDelta written with encoding/json: names exact, the last of equal names, null as absent.
func reference(chunk []byte) (d openai.Delta, ok bool) {
	ok = json.Valid(chunk)
	object := func(raw json.RawMessage) map[string]json.RawMessage {
		if string(raw) == "null" || len(raw) == 0 {
			return nil
		}
		var m map[string]json.RawMessage
		if json.Unmarshal(raw, &m) != nil {
			ok = false
		}
		return m
	}
	member := func(m map[string]json.RawMessage, name string, start byte) []byte {
		v := m[name]
		if len(v) == 0 || string(v) == "null" {
			return nil
		}
		ok = ok && (start == 0 || v[0] == start)
		return v
	}
	if !ok || bytes.TrimSpace(chunk)[0] != '{' {
		return d, false
	}
	top := object(chunk)
	d.Failed = member(top, "error", 0)
	var choices []json.RawMessage
	if raw := member(top, "choices", '['); raw != nil && ok && json.Unmarshal(raw, &choices) != nil {
		return d, false
	}
	if len(choices) == 0 {
		return d, ok
	}
	if choices[0][0] != '{' {
		return d, false
	}
	choice := object(choices[0])
	d.Finish = member(choice, "finish_reason", '"')
	delta := object(choice["delta"])
	d.Content, d.Refusal, d.ToolCalls = member(delta, "content", '"'), member(delta, "refusal", '"'), member(delta, "tool_calls", '[')
	if index := string(choice["index"]); index != "" && index != "0" && index != "null" {
		d = openai.Delta{Failed: d.Failed}
	}
	return d, ok
}

// sharedNames reports whether an object of the chunk has a name twice: then encoding/json does not look at the first
// one's insides, while we do, and may refuse what it lets pass.
func sharedNames(chunk []byte) bool {
	names := map[string]int{}
	d := json.NewDecoder(bytes.NewReader(chunk))
	for {
		token, err := d.Token()
		if err != nil {
			return false
		}
		if s, ok := token.(string); ok {
			if names[s]++; names[s] > 1 {
				return true
			}
		}
	}
}

func sameDelta(a, b openai.Delta) bool {
	return bytes.Equal(a.Content, b.Content) && bytes.Equal(a.Refusal, b.Refusal) && bytes.Equal(a.ToolCalls, b.ToolCalls) &&
		bytes.Equal(a.Finish, b.Finish) && bytes.Equal(a.Failed, b.Failed)
}

func (r result) String() string {
	return fmt.Sprintf("content %q, refusal %q, tool calls %q, finish %q, failed %q, ok %v", r.Content, r.Refusal, r.ToolCalls, r.Finish, r.Failed, r.ok)
}

type result struct {
	openai.Delta
	ok bool
}

func TestDeltaAgainstReference(t *testing.T) {
	contents := 0
	for _, chunk := range chunks {
		d, err := openai.ParseDelta([]byte(chunk))
		want, ok := reference([]byte(chunk))
		if !ok {
			want = openai.Delta{}
		}
		if (err == nil) != ok || !sameDelta(d, want) {
			t.Errorf("%s\n got %v\nwant %v", chunk, result{d, err == nil}, result{want, ok})
		}
		if d.Content != nil {
			contents++
		}
	}
	if contents != 7 {
		t.Errorf("%d chunks have content: the table measures something else", contents)
	}
}

func TestDepth(t *testing.T) {
	nested := func(n int) []byte {
		return []byte(`{"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `,"choices":[{"delta":{"content":"x"}}]}`)
	}
	if d, err := openai.ParseDelta(nested(openai.DepthMax - 1)); err != nil || string(d.Content) != `"x"` {
		t.Error(d, err)
	}
	if _, err := openai.ParseDelta(nested(openai.DepthMax)); err == nil {
		t.Error("nesting is not bounded")
	}
	if _, err := openai.ParseDelta(bytes.Repeat([]byte(`{"a":[`), 1<<20)); err == nil {
		t.Error("nesting is not bounded")
	}
}

// TestDeltaAllocs: reading a chunk and encoding its event allocates nothing.
func TestDeltaAllocs(t *testing.T) {
	chunk, buf := []byte(chunks[2]), make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() {
		d, err := openai.ParseDelta(chunk)
		if err != nil || len(openai.AppendObject(buf, "", "content", d.Content)) == 0 {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzDelta: parseDelta finds what encoding/json finds, or fails where it fails; and the event made of it carries the
// same string, in one event, whatever the bytes.
func FuzzDelta(f *testing.F) {
	for _, chunk := range chunks {
		f.Add([]byte(chunk))
	}
	f.Fuzz(func(t *testing.T, chunk []byte) {
		d, err := openai.ParseDelta(chunk)
		want, ok := reference(chunk)
		if err != nil && ok && (sharedNames(chunk) || bytes.Count(chunk, []byte("["))+bytes.Count(chunk, []byte("{")) > openai.DepthMax) {
			return // stricter, on purpose
		}
		if (err == nil) != ok || ok && !sameDelta(d, want) {
			t.Fatalf("%q\n got %v\nwant %v", chunk, result{d, err == nil}, result{want, ok})
		}
		if d.Content != nil {
			mustCarry(t, "content", d.Content)
		}
		if d.ToolCalls != nil {
			mustCarry(t, "tool_calls", d.ToolCalls)
		}
	})
}

// mustCarry makes an event of a value and reads it back.
func mustCarry(t *testing.T, name string, value []byte) {
	t.Helper()
	var events []sse.Event
	var p sse.Parser
	if err := p.Feed(openai.AppendObject(nil, name, name, bytes.Clone(value)), func(ev sse.Event) { events = append(events, ev) }); err != nil || len(events) != 1 {
		t.Fatalf("%q became %d events, %v", value, len(events), err)
	}
	var got map[string]any
	var want any
	if err := json.Unmarshal(events[0].Data, &got); err != nil || json.Unmarshal(value, &want) != nil {
		t.Fatalf("%q: %v", events[0].Data, err)
	}
	if a, b := fmt.Sprintf("%#v", got[name]), fmt.Sprintf("%#v", want); a != b || string(events[0].Name) != name {
		t.Fatalf("%s came back as %s", b, a)
	}
}

// FuzzScan: the scanner takes exactly what encoding/json takes, nesting aside.
func FuzzScan(f *testing.F) {
	for _, chunk := range chunks {
		f.Add([]byte(chunk))
	}
	for _, s := range []string{`-0.5e+10`, `"\ud83d"`, "\"\xff\"", `1.`, `-`, `1e`, `tru`, `[1,]`, `{"a"}`, `"\u12g4"`, " \t\r\n1 "} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := openai.Valid(b), json.Valid(b); got != want && bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) <= openai.DepthMax {
			t.Fatalf("%q: %v, encoding/json says %v", b, got, want)
		}
	})
}

func BenchmarkDelta(b *testing.B) {
	chunk := []byte(chunks[0])
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := openai.ParseDelta(chunk); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDeltaEncodingJSON(b *testing.B) {
	chunk := []byte(chunks[0])
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		var c struct {
			Choices []struct {
				Delta struct{ Content *string }
			}
		}
		if err := json.Unmarshal(chunk, &c); err != nil {
			b.Fatal(err)
		}
	}
}
