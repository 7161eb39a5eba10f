package browsertest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/chromiumtest"
)

// recording is sse/testdata/eventsource.json.
type recording struct {
	Browser        string   `json:"browser"`
	DefaultRetryMS int      `json:"default_retry_ms"` // how long it waits before it reconnects when it was told nothing
	Vectors        []vector `json:"vectors"`
}

// vector is one stream and what EventSource made of it. In a piece each character is a byte (U+00FF is 255), as JSON
// has no other way to write any byte.
type vector struct {
	Name        string   `json:"name"`
	Pieces      []string `json:"pieces"`
	Events      []event  `json:"events"`
	LastEventID string   `json:"last_event_id"` // the header of the request with which it came back
	RetryMS     int      `json:"retry_ms"`      // how long it waited before that
}

type event struct {
	Type        string `json:"type"`
	Data        string `json:"data"`
	LastEventID string `json:"last_event_id"`
}

const (
	recordingFile = "../../../sse/testdata/eventsource.json"

	defaultRetryMS = 3000                 // Chromium's
	retryStepMS    = 500                  // the streams use multiples of it: what is measured is rounded down to them
	retryEarlyMS   = 20                   // by how much the two clocks may differ
	pause          = 3 * time.Millisecond // between two pieces
)

// judge serves the streams, and sees how each EventSource comes back when its stream has ended.
type judge struct {
	pieces [][]string // of each stream, as bytes

	mu    sync.Mutex
	ended map[int]time.Time // when a stream was over; guarded by mu
	back  map[int]vector    // LastEventID and RetryMS of the request after it; guarded by mu
}

func newJudge() *judge {
	j := &judge{ended: map[int]time.Time{}, back: map[int]vector{}}
	for _, s := range byteStreams {
		j.pieces = append(j.pieces, strings.Split(s.in, "|"))
	}
	return j
}

func (j *judge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	index, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/stream/"))
	if err != nil || index >= len(j.pieces) {
		http.NotFound(w, r)
		return
	}
	j.mu.Lock()
	end, isBack := j.ended[index]
	if isBack {
		j.back[index] = vector{LastEventID: r.Header.Get("Last-Event-ID"), RetryMS: int(time.Since(end).Milliseconds())}
	}
	j.mu.Unlock()
	if isBack {
		w.WriteHeader(http.StatusNoContent) // tells an EventSource to stop
		return
	}
	// The bare connection: nothing may be put around the pieces, and each goes out by itself.
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	defer c.Close()
	j.write(c, index)
	j.mu.Lock()
	j.ended[index] = time.Now()
	j.mu.Unlock()
}

func (j *judge) write(c net.Conn, index int) {
	_, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"))
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for _, piece := range j.pieces[index] {
		if err != nil {
			return // the browser is gone; the test sees what it misses
		}
		<-tick.C
		_, err = c.Write([]byte(piece))
	}
}

// Goal: what a browser makes of every stream above is on record, for the tests of package sse, and the record is true.
// Method: Chromium's EventSource reads each of them; so does the parser of the front's page, through fetch().
func TestEventSourceRecording(t *testing.T) {
	chromiumtest.Need(t)
	j := newJudge()
	mux := http.NewServeMux()
	mux.Handle("/stream/", j)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
	})
	mux.HandleFunc("/sse.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "../front/assets/sse.js") })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	browser := chromiumtest.Start(t, server.URL+"/")

	names, err := json.Marshal(eventNames)
	if err != nil {
		t.Fatal(err)
	}
	var seen [][]event
	browser.Eval(`Promise.all(Array.from({length: `+strconv.Itoa(len(byteStreams))+`}, (_, i) => new Promise((resolve) => {
		const events = [];
		const source = new EventSource('/stream/' + i);
		const see = (e) => {
			if (e instanceof MessageEvent) events.push({type: e.type, data: e.data, last_event_id: e.lastEventId});
			// It comes back once, and is told to stop.
			else if (source.readyState === EventSource.CLOSED) resolve(events);
		};
		for (const name of `+string(names)+`) source.addEventListener(name, see);
	})))`, &seen)
	now := recording{Browser: browser.Version(), DefaultRetryMS: defaultRetryMS}
	j.mu.Lock()
	defer j.mu.Unlock()
	for i, s := range byteStreams {
		v := j.back[i]
		v.Name, v.Events = s.name, seen[i]
		for _, piece := range j.pieces[i] {
			v.Pieces = append(v.Pieces, toText(piece))
		}
		now.Vectors = append(now.Vectors, v)
	}
	pageParser(t, browser, now.Vectors)
	if *update {
		now.save(t)
	}
	compare(t, load(t), now)
}

// pageParser holds the parser of the front's page to what EventSource saw.
func pageParser(t *testing.T, browser *chromiumtest.Browser, vectors []vector) {
	t.Helper()
	all, err := json.Marshal(vectors)
	if err != nil {
		t.Fatal(err)
	}
	var seen [][]event
	browser.Eval(`(async () => {
		const { readEventStream } = await import('/sse.js');
		return Promise.all(`+string(all)+`.map(async ({pieces}) => {
			const events = [];
			const body = new ReadableStream({ start(c) {
				for (const p of pieces) c.enqueue(Uint8Array.from(p, (b) => b.charCodeAt(0)));
				c.close();
			} });
			await readEventStream(new Response(body), ({name, data, lastEventId}) =>
				events.push({type: name, data, last_event_id: lastEventId}));
			return events;
		}));
	})()`, &seen)
	for i, v := range vectors {
		if !reflect.DeepEqual(v.Events, seen[i]) {
			t.Errorf("%s: EventSource saw %q, the page's parser %q", v.Name, v.Events, seen[i])
		}
	}
}

// compare reports where the browser no longer does what is on record.
func compare(t *testing.T, record, now recording) {
	t.Helper()
	if len(record.Vectors) != len(now.Vectors) {
		t.Fatalf("%d streams are on record and %d are here: record again with -update", len(record.Vectors), len(now.Vectors))
	}
	for i, want := range record.Vectors {
		got := now.Vectors[i]
		// A loaded machine may be late, never early; a retry that was not understood is seconds off.
		if got.RetryMS < want.RetryMS-retryEarlyMS || got.RetryMS > want.RetryMS+2*retryStepMS && want.RetryMS < defaultRetryMS {
			t.Errorf("%s: it came back after %d ms, on record is %d", want.Name, got.RetryMS, want.RetryMS)
		}
		got.RetryMS = want.RetryMS
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s, by %s:\n%+v\non record, by %s:\n%+v", want.Name, now.Browser, got, record.Browser, want)
		}
	}
}

func load(t *testing.T) (r recording) {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(recordingFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

// save writes the record, a stream a line.
func (r recording) save(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"browser": %q, "default_retry_ms": %d, "vectors": [`, r.Browser, r.DefaultRetryMS)
	for i, v := range r.Vectors {
		v.RetryMS = (v.RetryMS + retryEarlyMS) / retryStepMS * retryStepMS
		line, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "\n%s", line)
	}
	b.WriteString("\n]}\n")
	if err := os.WriteFile(filepath.FromSlash(recordingFile), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// toText writes each byte as the character of that number.
func toText(bytes string) string {
	var b strings.Builder
	for i := range len(bytes) {
		b.WriteRune(rune(bytes[i]))
	}
	return b.String()
}
