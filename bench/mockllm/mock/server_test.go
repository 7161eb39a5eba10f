package mock_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/fdrecv/fdtest"
)

// body is a request for a completion.
const body = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`

// post asks without any help of a client library.
func post(t *testing.T, c *http.Client, base, body string, script mock.Script) *http.Response {
	t.Helper()
	resp, err := tryPost(t, c, base, body, script)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func tryPost(t *testing.T, c *http.Client, base, body string, script mock.Script) (*http.Response, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+"/chat/completions", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	change, err := json.Marshal(script)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Mock", string(change))
	resp, err := c.Do(req)
	if err == nil {
		t.Cleanup(func() { _ = resp.Body.Close() })
	}
	return resp, err
}

// Goal: an accident happens at the very byte that the script names, and is the one that it names. Method: what a plain
// client reads up to there, and how that ends.
func TestCuts(t *testing.T) {
	s, bases := newServer(t, mock.Config{})
	for _, way := range ways {
		transport := way.client(s, bases["path"])
		t.Cleanup(transport.CloseIdleConnections)
		c := &http.Client{Transport: transport}
		whole, err := io.ReadAll(post(t, c, bases[way.scheme], body, mock.Script{}).Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, cut := range []string{mock.CutEnd, mock.CutAbort, mock.CutClose, mock.CutReset} {
			for _, at := range []int64{0, 1, 250, int64(len(whole)) - 1} {
				mayLose := cut == mock.CutReset || cut == mock.CutClose && way.major == 2 // see the constants
				resp, err := tryPost(t, c, bases[way.scheme], body, mock.Script{Cut: cut, CutAt: at, WriteBytes: 100})
				if err != nil && mayLose {
					continue
				}
				if err != nil {
					t.Fatalf("%s, %s at %d: %v", way.name, cut, at, err)
				}
				got, err := io.ReadAll(resp.Body)
				lost := mayLose && int64(len(got)) < at
				if int64(len(got)) != at && !lost || (err == nil) != (cut == mock.CutEnd) {
					t.Errorf("%s, %s at %d: %d bytes, then %v", way.name, cut, at, len(got), err)
				}
				if reset := errors.Is(err, syscall.ECONNRESET); way.name == "h1" && reset != (cut == mock.CutReset) {
					t.Errorf("%s, %s at %d: ends with %v", way.name, cut, at, err)
				}
			}
		}
	}
	if n := s.Stats().Cut; n < uint64(len(ways)*16) { // a client may ask again
		t.Errorf("%d cuts are counted", n)
	}
}

func TestFramings(t *testing.T) {
	s, bases := newServer(t, mock.Config{})
	c := &http.Client{Transport: ways[0].client(s, "")}
	defer c.CloseIdleConnections()
	for _, tt := range []struct {
		script  mock.Script
		chunked bool
		length  bool
		close   bool
	}{
		{mock.Script{}, true, false, false},
		{mock.Script{Framing: "length"}, false, true, false},
		{mock.Script{Framing: "close"}, false, false, true},
		{mock.Script{Close: true}, true, false, true},
		{mock.Script{Framing: "length", Close: true, LineEnd: "crlf", Dress: []string{"bom", "comments"}, Pad: 5000}, false, true, true},
	} {
		resp := post(t, c, bases[mock.Plain], body, tt.script)
		got, err := io.ReadAll(resp.Body)
		if err != nil || slices.Equal(resp.TransferEncoding, []string{"chunked"}) != tt.chunked ||
			(resp.ContentLength == int64(len(got))) != tt.length || resp.Close != tt.close {
			t.Errorf("%+v: %v, %d bytes, length %d, %v, close %v", tt.script, err, len(got), resp.ContentLength, resp.TransferEncoding, resp.Close)
		}
	}
}

// Events leave when the script says, not together at the end.
func TestPauses(t *testing.T) {
	s, bases := newServer(t, mock.Config{})
	for _, way := range ways {
		transport := way.client(s, bases["path"])
		t.Cleanup(transport.CloseIdleConnections)
		began := time.Now()
		resp := post(t, &http.Client{Transport: transport}, bases[way.scheme], body,
			mock.Script{Events: 3, First: mock.Duration(100 * time.Millisecond), Delay: mock.Duration(time.Hour)})
		if took := time.Since(began); took > patience {
			t.Fatalf("%s: the head came after %v", way.name, took)
		}
		var got []byte
		buffer := make([]byte, 4096)
		for bytes.Count(got, []byte("fox")) < 1 {
			n, err := resp.Body.Read(buffer)
			if got = append(got, buffer[:n]...); err != nil {
				t.Fatalf("%s: %q, then %v", way.name, got, err)
			}
		}
		if took := time.Since(began); took < 100*time.Millisecond || took > patience {
			t.Errorf("%s: the first text came after %v", way.name, took)
		}
		_ = resp.Body.Close()
	}
}

// patience is far from both: the pauses that a script asks for, and the hour that it must not wait.
const patience = 20 * time.Second

// What the counts say of streams that ended, that go on, and that their client ended, under which name and when.
func TestStats(t *testing.T) {
	s, bases := newServer(t, mock.Config{Script: mock.Script{Events: 4}})
	for _, way := range ways {
		before := s.Stats()
		transport := way.client(s, bases["path"])
		c := &http.Client{Transport: transport}
		if _, err := io.ReadAll(post(t, c, bases[way.scheme], body, mock.Script{}).Body); err != nil {
			t.Fatal(err)
		}
		left := post(t, c, bases[way.scheme], body, mock.Script{Delay: mock.Duration(time.Hour), Tag: way.name})
		stalled := post(t, c, bases[way.scheme], body, mock.Script{Cut: mock.CutStall, CutAt: 10, Tag: "stalled"})
		fdtest.Eventually(t, "two open streams", func() bool { return s.Stats().Open == 2 && s.Stats().Texts == before.Texts+5 })
		at := time.Now()
		_ = left.Body.Close()
		fdtest.Eventually(t, "one of them to be cancelled", func() bool { return s.Stats().Cancelled == before.Cancelled+1 })
		_ = stalled.Body.Close()
		fdtest.Eventually(t, "none", func() bool { return s.Stats().Open == 0 })
		got := s.Stats()
		if got.Requests != before.Requests+3 || got.Finished != before.Finished+1 || got.Cancelled != before.Cancelled+2 || got.Cut != before.Cut+1 {
			t.Errorf("%s: %+v, then %+v", way.name, before, got)
		}
		last := got.Cancels[len(got.Cancels)-2:]
		if last[0].Tag != way.name || last[1].Tag != "stalled" || last[0].At.Before(at) || last[0].At.After(last[1].At) {
			t.Errorf("%s: closed at %v, cancels %+v", way.name, at, last)
		}
		transport.CloseIdleConnections()
		fdtest.Eventually(t, "no connection", func() bool { return s.Stats().Connections == 0 })
	}
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := c.Get(strings.TrimSuffix(bases[mock.Plain], "/v1") + "/stats")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var served mock.Stats
	if err := json.NewDecoder(resp.Body).Decode(&served); err != nil || served.Requests != s.Stats().Requests || len(served.Cancels) != 2*len(ways) {
		t.Errorf("served %+v, %v", served, err)
	}
}

// A request that the API would refuse is refused, so that a client that sends it is not believed to work.
func TestBadRequests(t *testing.T) {
	s, bases := newServer(t, mock.Config{})
	c := &http.Client{Transport: ways[0].client(s, "")}
	defer c.CloseIdleConnections()
	for name, tt := range map[string]struct{ body, param string }{
		"no JSON":           {`{"model"`, ""},
		"no model":          {`{"stream":true,"messages":[{"role":"user","content":"x"}]}`, "model"},
		"no messages":       {`{"model":"m","stream":true}`, "messages"},
		"no role":           {`{"model":"m","stream":true,"messages":[{"content":"x"}]}`, "messages"},
		"content of no use": {`{"model":"m","stream":true,"messages":[{"role":"user","content":7}]}`, "messages"},
		"no stream":         {`{"model":"m","messages":[{"role":"user","content":"x"}]}`, "stream"},
		"unknown setting":   {strings.Replace(body, "{", `{"mock":{"evnets":3},`, 1), "mock"},
		"bad setting":       {strings.Replace(body, "{", `{"mock":{"framing":"none"},`, 1), "mock"},
	} {
		resp := post(t, c, bases[mock.Plain], tt.body, mock.Script{})
		var answer struct {
			Error struct{ Message, Type, Param string }
		}
		err := json.NewDecoder(resp.Body).Decode(&answer)
		if err != nil || resp.StatusCode != 400 || answer.Error.Param != tt.param || answer.Error.Message == "" || answer.Error.Type != "invalid_request_error" {
			t.Errorf("%s: %s, %+v, %v", name, resp.Status, answer, err)
		}
	}
	if resp := post(t, c, strings.TrimSuffix(bases[mock.Plain], "/v1")+"/openai/deployments/d", body, mock.Script{}); resp.StatusCode != 200 {
		t.Errorf("under another path: %s", resp.Status)
	}
	resp, err := c.Post(bases[mock.Plain]+"/completions", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.StatusCode != 404 {
		t.Errorf("another endpoint: %s", resp.Status)
	}
}

func TestScriptsThatCannotBePlayed(t *testing.T) {
	for field, s := range map[string]mock.Script{
		"text": {Text: "x"}, "escape": {Escape: "x"}, "line_end": {LineEnd: "x"}, "framing": {Framing: "x"}, "cut": {Cut: "x"},
		"bytes": {Bytes: -1}, "pad": {Pad: -1}, "first": {First: -1}, "head": {Head: -1}, "delay": {Delay: -1},
		"fail_after": {FailAfter: -1}, "write_bytes": {WriteBytes: -1}, "cut_at": {CutAt: -1}, "status": {Status: 99}, "dress": {Dress: []string{"x"}},
		"length": {Events: -1, Framing: "length"},
	} {
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := mock.New(mock.Config{Script: s}); err == nil {
			t.Errorf("%s: a server was made", field)
		}
	}
}
