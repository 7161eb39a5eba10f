package fdrecv_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"streaming-daemon-go/fdrecv"
)

func TestParsePayload(t *testing.T) {
	tests := []struct {
		name, in string
		want     fdrecv.Payload
	}{
		{"nothing", "", fdrecv.Payload{}},
		{"lone NUL", "\x00", fdrecv.Payload{}},
		{"empty object", "{}", fdrecv.Payload{}},
		{"white space around everything", " \t\r\n{ \"prompt\" : \"a\" , \"model\"\n:\"b\" } ",
			fdrecv.Payload{Prompt: "a", Model: "b"}},
		{"all", `{"prompt":"p","user_id":"u","model":"m","request_id":"r"}`,
			fdrecv.Payload{Prompt: "p", UserID: "u", Model: "m", RequestID: "r"}},
		{"user_id as a number", `{"user_id":42}`, fdrecv.Payload{UserID: "42"}},
		{"a number keeps its text", `{"user_id":-9007199254740993.50e1 }`, fdrecv.Payload{UserID: "-9007199254740993.50e1"}},
		{"null is absent", `{"prompt":null,"user_id":null,"model":null,"request_id":null,"response_headers":null}`,
			fdrecv.Payload{}},
		{"escapes", `{"prompt":"a\"\\\u00e9\ud83d\ude00\n","model":"\\"}`, fdrecv.Payload{Prompt: "a\"\\é😀\n", Model: `\`}},
		{"an escaped key", `{"pro\u006dpt":"a"}`, fdrecv.Payload{Prompt: "a"}},
		{"keys are exact", `{"Prompt":"a","PROMPT":"b"}`, fdrecv.Payload{}},
		{"twice: the last", `{"prompt":"a","prompt":"b"}`, fdrecv.Payload{Prompt: "b"}},
		{"invalid UTF-8", "{\"prompt\":\"a\xffb\xc3\"}", fdrecv.Payload{Prompt: "a\ufffdb\ufffd"}},
		{"brackets and quotes in strings and below", `{"x":{"prompt":"no","y":["}",{"z":"\"]"}]},"prompt":"yes"}`,
			fdrecv.Payload{Prompt: "yes"}},
		{"headers in the order of the wire", `{"response_headers":{"X-B":"1","X-A":"2","X-B":"3"}}`,
			fdrecv.Payload{ResponseHeaders: []fdrecv.HeaderField{{"X-B", "1"}, {"X-A", "2"}, {"X-B", "3"}}}},
		{"headers, none as PHP writes it", `{"response_headers":[ ]}`, fdrecv.Payload{}},
		{"headers, none", `{"response_headers":{}}`, fdrecv.Payload{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := fdrecv.ParsePayload([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			checkPayload(t, got, tt.want)
			if raw := string(got.Raw()); raw != strings.TrimPrefix(tt.in, "\x00") {
				t.Errorf("raw %q", raw)
			}
		})
	}
}

func checkPayload(t *testing.T, got, want fdrecv.Payload) {
	t.Helper()
	if got.Prompt != want.Prompt || got.UserID != want.UserID || got.Model != want.Model ||
		got.RequestID != want.RequestID || !slices.Equal(got.ResponseHeaders, want.ResponseHeaders) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// Bad input: each is malformed, names the field, and what could be read is there for the rejection.
func TestParsePayloadMalformed(t *testing.T) {
	const cors = `"response_headers":{"Access-Control-Allow-Origin":"*"}`
	corsField := []fdrecv.HeaderField{{"Access-Control-Allow-Origin", "*"}}
	tests := []struct {
		name, in, names string
		want            fdrecv.Payload
	}{
		{name: "text", in: "hello"},
		{name: "array", in: "[]", names: "object"},
		{name: "string", in: `"prompt"`, names: "object"},
		{name: "number", in: "7", names: "object"},
		{name: "null", in: " null", names: "object"},
		{name: "white space only", in: " "},
		{name: "two NULs", in: "\x00\x00"},
		{name: "cut off", in: `{` + cors + `,"prompt":"a`},
		{name: "two objects", in: `{}{}`},
		{name: "byte order mark", in: "\ufeff{}"},
		{name: "control character in a string", in: "{\"prompt\":\"a\nb\"}"},
		{name: "too deep", in: strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)},
		{name: "prompt", in: `{"prompt":7,` + cors + `}`, names: "prompt", want: fdrecv.Payload{ResponseHeaders: corsField}},
		{name: "prompt an object", in: `{` + cors + `,"prompt":{"a":"b"},"model":"m"}`, names: "prompt",
			want: fdrecv.Payload{Model: "m", ResponseHeaders: corsField}},
		{name: "model", in: `{"model":true}`, names: "model"},
		{name: "request_id", in: `{"request_id":["a"]}`, names: "request_id"},
		{name: "user_id", in: `{"user_id":false}`, names: "user_id"},
		{name: "user_id a list", in: `{"user_id":[1]}`, names: "user_id"},
		{name: "headers a list", in: `{"response_headers":["a"],"prompt":"p"}`, names: "response_headers",
			want: fdrecv.Payload{Prompt: "p"}},
		{name: "headers a string", in: `{"response_headers":"a"}`, names: "response_headers"},
		{name: "header value a number", in: `{"response_headers":{"X-A":"1","X-B":2}}`, names: "X-B"},
		{name: "header value null", in: `{"response_headers":{"X-A":null}}`, names: "X-A"},
		{name: "one wrong, one right: still wrong", in: `{"prompt":1,"prompt":"a"}`, names: "prompt",
			want: fdrecv.Payload{Prompt: "a"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := fdrecv.ParsePayload([]byte(tt.in))
			if !errors.Is(err, fdrecv.ErrMalformed) {
				t.Fatalf("error %v", err)
			}
			if !strings.Contains(err.Error(), tt.names) {
				t.Errorf("%q does not name %q", err, tt.names)
			}
			checkPayload(t, got, tt.want)
		})
	}
}

func TestPayloadField(t *testing.T) {
	p, err := fdrecv.ParsePayload([]byte(`{"topic":"a","prompt":"p","opt\u0069ons":{"n":[1, 2]},"topic":"b"}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"topic": `"b"`, "options": `{"n":[1, 2]}`, "prompt": `"p"`, "none": "", "": ""} {
		if got := string(p.Field(name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	var none fdrecv.Payload
	if got := none.Field("topic"); got != nil {
		t.Errorf("%q from no payload", got)
	}
}

// FuzzPayload holds the reader against encoding/json, whatever the bytes: what one takes for an object the other does
// too, and every field of it has the value that encoding/json finds.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{"", "\x00", "{}", `{"prompt":"a\u0041","user_id":1e9,"response_headers":{"A":"b"}}`,
		`{"a":[{"b":"}"}],"prompt":null}`, "{\"prompt\":\"\xff\"}", `{"response_headers":[]}`, `[1]`, `{"user_id":[]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		p, err := fdrecv.ParsePayload(b)
		if !bytes.Equal(before, b) {
			t.Fatal("the payload was written to")
		}
		if err != nil && !errors.Is(err, fdrecv.ErrMalformed) {
			t.Fatalf("error %v", err)
		}
		var all map[string]json.RawMessage
		if jsonErr := json.Unmarshal(b, &all); jsonErr != nil || all == nil {
			if err == nil && len(p.Raw()) > 0 {
				t.Fatalf("took %q, encoding/json says %v", b, jsonErr)
			}
			return
		}
		for key, want := range all {
			if got := p.Field(key); !bytes.Equal(got, want) {
				t.Fatalf("field %q is %q, encoding/json reads %q", key, got, want)
			}
		}
		if err != nil {
			return
		}
		want := map[string]string{}
		for _, name := range []string{"prompt", "model", "request_id", "user_id"} {
			var s string
			if v := all[name]; v != nil && name == "user_id" && v[0] != '"' && v[0] != 'n' {
				s = string(v)
			} else if v != nil {
				if err := json.Unmarshal(v, &s); err != nil {
					t.Fatalf("took %s: %s", name, v)
				}
			}
			want[name] = s
		}
		got := map[string]string{"prompt": p.Prompt, "model": p.Model, "request_id": p.RequestID, "user_id": p.UserID}
		if !maps.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		headers := map[string]string{}
		for _, h := range p.ResponseHeaders {
			headers[h.Name] = h.Value
		}
		wantHeaders := map[string]string{}
		if v := all["response_headers"]; v != nil && v[0] == '{' {
			if err := json.Unmarshal(v, &wantHeaders); err != nil {
				t.Fatalf("took response_headers: %s", v)
			}
		}
		if !reflect.DeepEqual(headers, wantHeaders) {
			t.Fatalf("headers %q, want %q", headers, wantHeaders)
		}
	})
}

func BenchmarkParsePayload(b *testing.B) {
	small := []byte(`{"prompt":"What is the capital of France?","user_id":12345,"model":"gpt-4o-mini","request_id":` +
		`"3f0c9f9e","response_headers":{"Access-Control-Allow-Origin":"https://example.com"}}`)
	for name, payload := range map[string][]byte{"200B": small, "200KB": jsonOf(200_000)} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := fdrecv.ParsePayload(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
