package front_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/chromiumtest"
	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse"
)

// event is what the page's parser calls back with.
type event struct {
	Name        string `json:"name"`
	Data        string `json:"data"`
	LastEventID string `json:"lastEventId"`
}

// The parser in the page against hand-written expectations, for every way to cut the bytes in two and for a byte at a
// time, through fetch()'s own reader and decoder: a cut may fall inside a character, or between CR and LF.
func TestPageParser(t *testing.T) {
	message := func(data ...string) (all []event) {
		for _, d := range data {
			all = append(all, event{"message", d, ""})
		}
		return all
	}
	tests := []struct {
		name, in string
		want     []event
	}{
		{"nothing", "", nil},
		{"LF", "data: a\n\ndata: b\n\n", message("a", "b")},
		{"CR", "data: a\rdata: b\r\rdata: c\r\r", message("a\nb", "c")},
		{"CRLF", "data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", message("a\nb", "c")},
		{"mixed", "data: a\r\n\ndata: b\n\rdata: c\r\r\ndata: d\r\n\rdata: e\n\r\n: f\r\n", message("a", "b", "c", "d", "e")},
		{"one space is taken off", "data:x\n\ndata: x\n\ndata:  x\n\ndata:\tx\n\n", message("x", "x", " x", "\tx")},
		{"empty data is an event", "data\n\ndata:\n\ndata\ndata\n\n", message("", "", "\n")},
		{"no data is none, and its name is forgotten", "event: e\n\ndata: x\n\n", message("x")},
		{"name", "event: e\ndata: x\n\ndata: y\n\n", []event{{"e", "x", ""}, {"message", "y", ""}}},
		{"id persists", "id: 7\ndata: a\n\ndata: b\n\nid\ndata: c\n\n", []event{{"message", "a", "7"}, {"message", "b", "7"}, {"message", "c", ""}}},
		{"id with NUL is ignored", "id: 7\nid: 8\x00\ndata: a\n\n", []event{{"message", "a", "7"}}},
		{"comments and unknown fields", ": heartbeat\n\nfoo: bar\ndata: x\n: c\nData: y\n\n", message("x")},
		{"colon in the value", "data: a:b\ndata::\n\n", message("a:b\n:")},
		{"BOM", "\ufeffdata: x\n\ndata: \ufeffy\n\n", message("x", "\ufeffy")},
		{"beyond ASCII", "data: 日本語 \U0001f600é\n\n", message("日本語 \U0001f600é")},
		{"unfinished", "data: a\n\ndata: b\n", message("a")},
	}
	fdtest.NoLeaks(t)
	s := startFront(t, front.Config{Send: discard}, front.Limits{})
	c := chromiumtest.Start(t, s.URL())
	for _, tt := range tests {
		bytes := make([]int, 0, len(tt.in)) // encoding/json would make base64 of a []byte
		for _, b := range []byte(tt.in) {
			bytes = append(bytes, int(b))
		}
		in, err := json.Marshal(bytes)
		if err != nil {
			t.Fatal(err)
		}
		var got [][]event
		c.Eval(`(async () => {
			const { readEventStream } = await import('/sse.js');
			const bytes = new Uint8Array(`+string(in)+`);
			const parse = async (pieces) => {
				const events = [];
				const body = new ReadableStream({ start(c) { pieces.forEach((p) => c.enqueue(p)); c.close(); } });
				await readEventStream(new Response(body), (e) => events.push(e));
				return events;
			};
			const all = [await parse([...bytes].map((b) => Uint8Array.of(b)))];
			for (let i = 0; i <= bytes.length; i++) all.push(await parse([bytes.slice(0, i), bytes.slice(i)]));
			return all;
		})()`, &got)
		if len(got) != len(tt.in)+2 {
			t.Fatalf("%s: %d runs", tt.name, len(got))
		}
		for i, events := range got {
			if len(events)+len(tt.want) > 0 && !reflect.DeepEqual(events, tt.want) {
				t.Errorf("%s, run %d: %q, want %q", tt.name, i, events, tt.want)
			}
		}
	}
}

// script is a daemon whose stream depends on the prompt.
type script struct {
	mu      sync.Mutex
	streams map[string]int // by prompt, how many were opened; guarded by mu
	running int            // streams that are written now; guarded by mu
	wg      sync.WaitGroup // one per running stream
}

func (s *script) send(client int, data []byte) error {
	h, err := receive(client, data)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.streams[h.payload.Prompt]++
	attempt := s.streams[h.payload.Prompt]
	refused := h.payload.Prompt == "refuse"
	if !refused {
		s.running++
	}
	s.mu.Unlock()
	if refused {
		_ = h.fd.Close()
		return errors.New("deliberate")
	}
	s.wg.Go(func() {
		s.stream(&h, attempt)
		_ = h.fd.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	})
	return nil
}

func (s *script) stream(h *handed, attempt int) {
	// A retry of 1 ms: an EventSource that is not closed is back before anybody looks.
	b := append(h.head(), "retry: 1\n\n"...)
	b = append(b, sse.Heartbeat...)
	switch h.payload.Prompt {
	case "fail":
		b = sse.AppendError(sse.AppendContent(b, "half"), "it broke", 1)
	case "cut":
		b = sse.AppendContent(b, "half")
	case "overload":
		if attempt == 1 {
			b = sse.AppendEvent(b, sse.Event{Name: []byte("overloaded"), Data: []byte(`{"error":{"status":503,"message":"full"}}`)})
			break
		}
		b = append(sse.AppendContent(b, "at last"), sse.Done...)
	case "endless":
		if h.write(sse.AppendContent(b, "on")) == nil {
			// Until the client goes: stop has to reach the socket.
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(h.fd.Int()), Events: unix.POLLRDHUP}}, int(patience.Milliseconds()))
		}
		return
	default:
		for word := range strings.SplitAfterSeq(h.payload.Prompt, " ") {
			b = sse.AppendContent(b, word)
		}
		b = append(b, sse.Done...)
	}
	_ = h.write(b)
}

func (s *script) opened(prompt string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams[prompt]
}

func (s *script) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running == 0
}

// panel is what a visitor sees of one of the two.
type panel struct{ Text, Problem, First, Events, State, Raw string }

// The page as a visitor uses it: both panels, every way in which a stream ends.
func TestPage(t *testing.T) {
	fdtest.NoLeaks(t)
	daemon := &script{streams: map[string]int{}}
	t.Cleanup(daemon.wg.Wait) // after the browser is gone, which ends what still streams
	s := startFront(t, front.Config{Send: daemon.send}, front.Limits{})
	c := chromiumtest.Start(t, s.URL())
	c.Eval(`
		window.see = (id) => {
			const part = (name) => document.querySelector('#' + id + ' [data-part=' + name + ']');
			return { Text: part('text').textContent, Problem: part('problem').hidden ? '' : part('problem').textContent,
				First: part('first').textContent, Events: part('events').textContent, State: part('state').textContent,
				Raw: part('raw').textContent };
		};
		window.until = async (f) => { while (!f()) await new Promise(requestAnimationFrame); };
		window.submit = async (prompt) => {
			document.getElementById('prompt').value = prompt;
			document.getElementById('start-both').click();
			if (prompt === 'endless') {
				await until(() => see('es').Text !== '' && see('fetch').Text !== '');
				document.querySelectorAll('[data-action=stop]').forEach((b) => b.click());
			}
			await until(() => document.querySelectorAll('[data-action=stop]:disabled').length === 2);
			return [see('es'), see('fetch')];
		};`, nil)
	const words = "a word at a time: \"<b>日本語</b>\" \\ end"
	tests := []struct {
		prompt, text   string
		events         [2]string // of EventSource and fetch()
		states         [2]string // how each begins
		problems       [2]string // a part of each; "" means none
		streams        int       // opened by both together
		eventSourceRaw string    // a part of it
	}{
		{words, words, [2]string{"9", "9"}, [2]string{"Done", "Done"}, [2]string{}, 2, "message: [DONE]\n"},
		{"refuse", "", [2]string{"0", "0"}, [2]string{"Refused", "Refused (503)"}, [2]string{"refused the stream", "503: the daemon did not take"}, 2, ""},
		{"fail", "half", [2]string{"2", "2"}, [2]string{"Failed", "Failed"}, [2]string{"it broke", "it broke"}, 2, "error: {"},
		{"cut", "half", [2]string{"1", "1"}, [2]string{"Cut off", "Cut off"}, [2]string{"lost before [DONE]", "ended before [DONE]"}, 2, "message: {"},
		{"endless", "on", [2]string{"1", "1"}, [2]string{"Stopped", "Stopped"}, [2]string{}, 2, "message: {"},
		{words, words, [2]string{"9", "9"}, [2]string{"Done", "Done"}, [2]string{}, 4, "message: [DONE]\n"}, // again: nothing came back meanwhile
	}
	for _, tt := range tests {
		quoted, err := json.Marshal(tt.prompt)
		if err != nil {
			t.Fatal(err)
		}
		var got [2]panel
		c.Eval(`submit(`+string(quoted)+`)`, &got)
		for i, p := range got {
			if p.Text != tt.text || p.Events != tt.events[i] || !strings.HasPrefix(p.State, tt.states[i]) ||
				!strings.Contains(p.Problem, tt.problems[i]) || (p.Problem != "") != (tt.problems[i] != "") ||
				strings.HasSuffix(p.First, "s") != (tt.events[i] != "0") {
				t.Errorf("%s, panel %d: %+v", tt.prompt, i, p)
			}
		}
		if !strings.Contains(got[0].Raw, tt.eventSourceRaw) {
			t.Errorf("%s: EventSource's raw view is %q", tt.prompt, got[0].Raw)
		}
		fdtest.Eventually(t, tt.prompt+": the browser to let the sockets go", daemon.idle)
		if n := daemon.opened(tt.prompt); n != tt.streams {
			t.Errorf("%s: %d streams were opened, want %d", tt.prompt, n, tt.streams)
		}
	}
	var got panel
	c.Eval(`(async () => {
		document.getElementById('prompt').value = 'overload';
		document.querySelector('#es [data-action=start]').click();
		await until(() => see('es').State.startsWith('Done'));
		return see('es');
	})()`, &got)
	if got.Text != "at last" || !strings.Contains(got.Raw, "overloaded: {") || daemon.opened("overload") != 2 {
		t.Errorf("overloaded: %+v, %d streams", got, daemon.opened("overload"))
	}
}
