package main_test

import (
	"bufio"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/sse/openai"
)

// Goal: what the upstream says is what the client reads, to the byte, whatever the text and however it is escaped.
// Method: every text of the mock in every escape, over every route.
func TestTextToTheByte(t *testing.T) {
	overRoutes(t, openai.Options{}, func(t *testing.T, r *rig) {
		for text := range mock.Texts {
			for _, escape := range []string{"utf8", "ascii", "all"} {
				script := mock.Script{Text: text, Escape: escape, Events: 2 * len(mock.Texts[text])}
				head, body := r.ask(payload(t, script))
				if got, want := events(t, body), relayed(script); !strings.HasPrefix(head, "HTTP/1.1 200 ") || !slices.Equal(got, want) {
					t.Errorf("%s, %s: %q\n%q, want\n%q", text, escape, head, got, want)
				}
			}
		}
		r.quiet()
	})
}

// Likewise every legal form of a response and of the events in it.
func TestFormsToTheByte(t *testing.T) {
	forms := map[string]mock.Script{
		"large": {Bytes: 20_000}, "pad": {Pad: 200_000}, "large and escaped": {Bytes: 9000, Escape: "all"},
		"length": {Framing: "length"}, "close": {Framing: "close"}, "no keep-alive": {Close: true},
		"bytewise": {WriteBytes: 1, Events: 4}, "sevens": {WriteBytes: 7, LineEnd: "crlf", Dress: []string{"comments", "fields"}},
		"no content type": {ContentType: "none"}, "slow": {Head: 2e6, First: 2e6, Delay: 1e6},
	}
	for _, lineEnd := range []string{"lf", "crlf", "cr"} {
		for _, dress := range mock.Dresses {
			forms[lineEnd+" "+dress] = mock.Script{LineEnd: lineEnd, Dress: []string{dress}, WriteBytes: 11}
		}
		forms[lineEnd+" all"] = mock.Script{LineEnd: lineEnd, Dress: []string{"bom", "comments", "fields", "split", "tight"}}
	}
	overRoutes(t, openai.Options{}, func(t *testing.T, r *rig) {
		for name, form := range forms {
			form.Text = "surrogates"
			if _, body := r.ask(payload(t, form)); !slices.Equal(events(t, body), relayed(form)) {
				t.Errorf("%s: %.2000q, want %.2000q", name, body, relayed(form))
			}
		}
		r.quiet()
	})
}

// In raw mode a client of the API's own makers reads through the daemon what it reads from the upstream.
func TestRawForTheOfficialClient(t *testing.T) {
	overRoutes(t, openai.Options{Profile: openai.Profile{Relay: openai.Raw}}, func(t *testing.T, r *rig) {
		script := mock.Script{Text: "lines", Events: 13, Tools: true, Refusal: "no", LineEnd: "crlf"}
		c := r.handoff(strings.Replace(payload(t, script), `"extra":{`, `"extra":{"stream_options":{"include_usage":true},`, 1))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		chunks := ssestream.NewStream[client.ChatCompletionChunk](ssestream.NewDecoder(resp), nil)
		var text, tools, refusal, finish string
		var tokens int64
		for chunks.Next() {
			chunk := chunks.Current()
			tokens += chunk.Usage.CompletionTokens
			for _, choice := range chunk.Choices {
				text += choice.Delta.Content
				refusal += choice.Delta.Refusal
				finish += choice.FinishReason
				for _, call := range choice.Delta.ToolCalls {
					tools += call.Function.Arguments
				}
			}
		}
		if err := chunks.Err(); err != nil {
			t.Error(err)
		}
		if text != script.Whole("") || tools != `{"city":"Zürich"}` || refusal != "no" || finish != "stop" || tokens != 13 {
			t.Errorf("text %q, tools %q, refusal %q, finish_reason %q, %d tokens", text, tools, refusal, finish, tokens)
		}
		_ = c.Close()
		r.quiet()
	})
}

// A failure before the client's head has a status of its own, and no word of the upstream's text.
func TestFailuresBeforeTheStream(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script mock.Script
		status string
		has    string
	}{
		{"401", mock.Script{Status: 401}, "502", "invalid_api_key"},
		{"404", mock.Script{Status: 404}, "502", "model_not_found"},
		{"429", mock.Script{Status: 429, RetryAfter: "7"}, "429", "Retry-After: 7\r\n"},
		{"500", mock.Script{Status: 500}, "502", "server_error"},
		{"503", mock.Script{Status: 503, RetryAfter: "9"}, "503", "Retry-After: 9\r\n"},
		{"content type", mock.Script{ContentType: "text/html"}, "502", "not understood"},
		{"silence", mock.Script{Head: mock.Duration(time.Hour)}, "504", "in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			overRoutes(t, openai.Options{FirstByteTimeout: 300 * time.Millisecond}, func(t *testing.T, r *rig) {
				head, body := r.ask(payload(t, tt.script))
				if !strings.HasPrefix(head, "HTTP/1.1 "+tt.status+" ") || !strings.Contains(head+"\r\n"+body, tt.has) ||
					!strings.Contains(head, "Content-Type: application/json") {
					t.Errorf("%q %q", head, body)
				}
				r.quiet()
			})
		})
	}
}

// A failure after it is an error event behind the text that came, and no [DONE].
func TestFailuresWithinTheStream(t *testing.T) {
	whole := mock.Script{Text: "words", Events: 8}
	for name, change := range map[string]func(*mock.Script){
		"reported":         func(s *mock.Script) { s.FailAfter = 5 },
		"end":              func(s *mock.Script) { s.Cut, s.CutAt = mock.CutEnd, 1000 },
		"end of length":    func(s *mock.Script) { s.Cut, s.CutAt, s.Framing = mock.CutEnd, 1000, "length" },
		"abort":            func(s *mock.Script) { s.Cut, s.CutAt = mock.CutAbort, 1000 },
		"close":            func(s *mock.Script) { s.Cut, s.CutAt = mock.CutClose, 1000 },
		"close, no length": func(s *mock.Script) { s.Cut, s.CutAt, s.Framing = mock.CutClose, 1000, "close" },
		"reset":            func(s *mock.Script) { s.Cut, s.CutAt = mock.CutReset, 1000 },
		"stall":            func(s *mock.Script) { s.Cut, s.CutAt = mock.CutStall, 1000 },
		"no finish":        func(s *mock.Script) { s.Finish, s.NoDone = "none", true },
		"too large a line": func(s *mock.Script) { s.Pad = 3 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			overRoutes(t, openai.Options{IdleTimeout: 300 * time.Millisecond}, func(t *testing.T, r *rig) {
				script := whole
				change(&script)
				head, body := r.ask(payload(t, script))
				if strings.HasPrefix(head, "HTTP/1.1 502 ") && (script.Cut == mock.CutClose || script.Cut == mock.CutReset) {
					return // the upstream's head was lost with its connection
				}
				got := events(t, body)
				last := len(got) - 1
				if last < 0 || !strings.HasPrefix(got[last], `error:{"error":{`) {
					t.Fatalf("%q", got)
				}
				if want := relayed(whole); !slices.Equal(got[:last], want[:last]) || last > whole.Events {
					t.Errorf("%q, want the start of %q and an error", got, want)
				}
				r.quiet()
			})
		})
	}
}

// Goal: wherever the upstream breaks off, the client reads whole events of the start of the text, and [DONE] only if the
// completion was whole. Method: each kind of cut at every seventh byte of a short reply.
func TestCutAnywhere(t *testing.T) {
	overRoutes(t, openai.Options{}, func(t *testing.T, r *rig) {
		script := mock.Script{Text: "surrogates", Events: 3}
		want := relayed(script)
		seen := map[string]bool{}
		for _, script.Cut = range []string{mock.CutEnd, mock.CutAbort, mock.CutClose, mock.CutReset} {
			for script.CutAt = 0; script.CutAt < 1500; script.CutAt += 7 {
				head, body := r.ask(payload(t, script))
				if !strings.HasPrefix(head, "HTTP/1.1 200 ") { // the upstream's own head was lost with its connection
					if !strings.HasPrefix(head, "HTTP/1.1 502 ") || script.Cut == mock.CutEnd {
						t.Fatalf("%s at %d: %q", script.Cut, script.CutAt, head)
					}
					continue
				}
				got := events(t, body)
				last := len(got) - 1
				switch {
				case slices.Equal(got, want):
					seen["whole"] = true
				case last >= 0 && strings.HasPrefix(got[last], "error:") && last < len(want) && slices.Equal(got[:last], want[:last]):
					seen[fmt.Sprint(last)] = true
				default:
					t.Fatalf("%s at %d: %q", script.Cut, script.CutAt, got)
				}
			}
		}
		for _, n := range []string{"0", "1", "2", "3", "whole"} {
			if !seen[n] {
				t.Errorf("no cut left %s events: %v", n, seen)
			}
		}
		r.quiet()
	})
}
