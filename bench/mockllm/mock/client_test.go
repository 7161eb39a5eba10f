package mock_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"streaming-daemon-go/bench/mockllm/mock"
)

// newServer gives a server and its bases by scheme.
func newServer(t *testing.T, cfg mock.Config) (*mock.Server, map[string]string) {
	t.Helper()
	s, err := mock.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	bases := map[string]string{}
	for scheme, addr := range map[string]string{
		mock.Plain: "127.0.0.1:0", mock.Secure: "127.0.0.1:0", mock.Unix: filepath.Join(t.TempDir(), "s"),
	} {
		if bases[scheme], err = s.Listen(scheme, addr); err != nil {
			t.Fatal(err)
		}
		if scheme == mock.Unix {
			bases["path"] = addr
		}
	}
	return s, bases
}

// reached says how a client reaches the server, and in what version of HTTP it must be answered.
type reached struct {
	name, scheme string
	major        int
	client       func(s *mock.Server, path string) *http.Transport
}

var ways = []reached{
	{"h1", mock.Plain, 1, func(*mock.Server, string) *http.Transport { return &http.Transport{} }},
	{"h1 over TLS", mock.Secure, 1, func(s *mock.Server, _ string) *http.Transport {
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots()}, Protocols: protocols(func(p *http.Protocols) { p.SetHTTP1(true) })}
	}},
	{"h2 over TLS", mock.Secure, 2, func(s *mock.Server, _ string) *http.Transport {
		return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Roots()}, Protocols: protocols(func(p *http.Protocols) { p.SetHTTP2(true) })}
	}},
	{"h2c", mock.Plain, 2, func(*mock.Server, string) *http.Transport {
		return &http.Transport{Protocols: protocols(func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) })}
	}},
	{"unix", mock.Unix, 1, func(_ *mock.Server, path string) *http.Transport {
		return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
	}},
}

func protocols(set func(*http.Protocols)) *http.Protocols {
	p := new(http.Protocols)
	set(p)
	return p
}

// official is OpenAI's own client, made for the server. It sees the version of HTTP.
func official(t *testing.T, way reached, s *mock.Server, bases map[string]string, options ...option.RequestOption) openai.Client {
	t.Helper()
	transport := way.client(s, bases["path"])
	t.Cleanup(transport.CloseIdleConnections)
	return openai.NewClient(append([]option.RequestOption{
		option.WithBaseURL(bases[way.scheme]), option.WithAPIKey("k"), option.WithMaxRetries(0),
		option.WithHTTPClient(&http.Client{Transport: transport}),
		option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
			resp, err := next(r)
			if err == nil && resp.ProtoMajor != way.major {
				t.Errorf("answered in %s", resp.Proto)
			}
			return resp, err
		}),
	}, options...)...)
}

func asking(prompt string) openai.ChatCompletionNewParams {
	return openai.ChatCompletionNewParams{
		Model:         "m-1",
		Messages:      []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("be brief"), openai.UserMessage(prompt)},
		StreamOptions: openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)},
	}
}

// scripted is a request's change of the server's script.
func scripted(script mock.Script) option.RequestOption {
	b, err := json.Marshal(script)
	if err != nil {
		panic(err)
	}
	return option.WithHeader("X-Mock", string(b))
}

// completion is what a client has read of a stream.
type completion struct {
	texts                 []string // role chunk and all
	role, finish, refusal string
	tools                 string // arguments
	usage                 int64
	err                   error
}

// read streams a completion through the official client, and judges each chunk's frame.
func read(t *testing.T, c openai.Client, params openai.ChatCompletionNewParams, options ...option.RequestOption) (got completion) {
	t.Helper()
	stream := c.Chat.Completions.NewStreaming(t.Context(), params, options...)
	defer func() { _ = stream.Close() }()
	id := ""
	for stream.Next() {
		chunk := stream.Current()
		if id == "" {
			id = chunk.ID
		}
		if chunk.ID != id || id == "" || chunk.Object != "chat.completion.chunk" || chunk.Model != params.Model || chunk.Created == 0 {
			t.Errorf("chunk %s", chunk.RawJSON())
		}
		if chunk.Usage.TotalTokens > 0 {
			got.usage = chunk.Usage.CompletionTokens
			if len(chunk.Choices) != 0 || chunk.Usage.TotalTokens != chunk.Usage.PromptTokens+got.usage {
				t.Errorf("usage chunk %s", chunk.RawJSON())
			}
			continue
		}
		choice := chunk.Choices[0]
		if got.role == "" {
			got.role = choice.Delta.Role
		} else {
			got.texts = append(got.texts, choice.Delta.Content)
		}
		got.refusal += choice.Delta.Refusal
		for _, call := range choice.Delta.ToolCalls {
			got.tools += call.Function.Arguments
		}
		if choice.FinishReason != "" {
			got.finish = choice.FinishReason
			got.texts = got.texts[:len(got.texts)-1]
		}
	}
	got.err = stream.Err()
	return got
}

// decoded is what the JSON strings of a script say.
func decoded(t *testing.T, script mock.Script, prompt string) (texts []string) {
	t.Helper()
	for _, quoted := range script.Quoted(prompt) {
		var text string
		if err := json.Unmarshal([]byte(quoted), &text); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	return texts
}

// Goal: the server speaks the format as the API's makers read it, in every text and escape, over every transport, so
// that what is tested with it is not tested against a mistake of ours. Method: OpenAI's own client reads what Quoted and
// Whole promise.
func TestOfficialClientReadsEveryText(t *testing.T) {
	s, bases := newServer(t, mock.Config{Key: "k"})
	for _, way := range ways {
		c := official(t, way, s, bases)
		for text := range mock.Texts {
			for _, escape := range []string{"utf8", "ascii", "all"} {
				script := mock.Script{Text: text, Escape: escape, Events: 2 * len(mock.Texts[text])}
				got := read(t, c, asking("hi there"), scripted(script))
				if got.err != nil || got.role != "assistant" || got.finish != "stop" || got.usage != int64(script.Events) {
					t.Errorf("%s, %s, %s: %+v", way.name, text, escape, got)
				}
				if want := decoded(t, script, ""); !slices.Equal(got.texts, want) {
					t.Errorf("%s, %s, %s: %q, want %q", way.name, text, escape, got.texts, want)
				}
				if whole := script.Whole(""); strings.Join(got.texts, "") != whole {
					t.Errorf("%s, %s: Whole is %q", text, escape, whole)
				}
			}
		}
	}
}

// Every setting of the response that leaves the completion whole must leave it so for the official client.
func TestOfficialClientReadsEveryForm(t *testing.T) {
	s, bases := newServer(t, mock.Config{})
	base := mock.Script{Text: "surrogates", Events: 6}
	forms := map[string]mock.Script{
		"plain": {}, "pad": {Pad: 20_000}, "large": {Bytes: 9000}, "slow": {Head: 1e6, First: 1e6, Delay: 1e6},
		"length": {Framing: "length"}, "close": {Framing: "close"}, "no keep-alive": {Close: true}, "bytewise": {WriteBytes: 1},
		"crlf": {LineEnd: "crlf"}, "tight": {Dress: []string{"tight"}}, "spaces": {Dress: []string{"spaces"}},
	}
	for _, way := range ways {
		c := official(t, way, s, bases)
		for name, form := range forms {
			form.Text, form.Events = base.Text, base.Events
			got := read(t, c, asking("x"), scripted(form))
			if want := decoded(t, form, ""); got.err != nil || !slices.Equal(got.texts, want) || got.finish != "stop" || got.usage != 6 {
				t.Errorf("%s, %s: %+v, want %q", way.name, name, got, want)
			}
		}
	}
}

func TestOfficialClientReadsWhatElseThereIs(t *testing.T) {
	s, bases := newServer(t, mock.Config{Script: mock.Script{Events: 2}})
	c := official(t, ways[0], s, bases)
	if got := read(t, c, asking("a b  c"), scripted(mock.Script{Text: "echo"})); !slices.Equal(got.texts, []string{"a ", "b ", " ", "c"}) {
		t.Errorf("echo: %+v", got)
	}
	if got := read(t, c, asking("x"), scripted(mock.Script{Refusal: "no 😀"})); got.refusal != "no 😀" {
		t.Errorf("refusal: %+v", got)
	}
	if got := read(t, c, asking("x"), scripted(mock.Script{Tools: true, Finish: "tool_calls"})); got.tools != `{"city":"Zürich"}` || got.finish != "tool_calls" {
		t.Errorf("tools: %+v", got)
	}
	params := asking("")
	params.Messages = []openai.ChatCompletionMessageParamUnion{openai.UserMessage([]openai.ChatCompletionContentPartUnionParam{
		openai.TextContentPart("in "), openai.ImageContentPart(openai.ChatCompletionContentPartImageImageURLParam{URL: "data:,"}), openai.TextContentPart("parts"),
	})}
	if got := read(t, c, params, scripted(mock.Script{Text: "echo"})); strings.Join(got.texts, "") != "in parts" {
		t.Errorf("parts: %+v", got)
	}
}

// A refusal is the API's error, as its own client takes it apart.
func TestOfficialClientReadsErrors(t *testing.T) {
	s, bases := newServer(t, mock.Config{})
	for _, way := range ways {
		c := official(t, way, s, bases)
		for status, code := range map[int]string{401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded", 500: "", 503: "overloaded"} {
			got := read(t, c, asking("x"), scripted(mock.Script{Status: status, RetryAfter: "7"}))
			var failed *openai.Error
			if !errors.As(got.err, &failed) || failed.StatusCode != status || failed.Code != code || failed.Response.Header.Get("Retry-After") != "7" {
				t.Errorf("%s, status %d: %v", way.name, status, got.err)
			}
		}
		got := read(t, c, asking("x"), scripted(mock.Script{FailAfter: 3}))
		if got.err == nil || !strings.Contains(got.err.Error(), "The server had an error") || len(got.texts) != 3 {
			t.Errorf("%s, an error in the stream: %+v", way.name, got)
		}
	}
	_, locked := newServer(t, mock.Config{Key: "another"})
	var failed *openai.Error
	if got := read(t, official(t, ways[0], s, locked), asking("x")); !errors.As(got.err, &failed) || failed.StatusCode != 401 {
		t.Errorf("the wrong key: %v", got.err)
	}
}
