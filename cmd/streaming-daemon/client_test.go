package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse"
)

// sendTimeout is for a handoff to a daemon that shares two cores with all the other tests.
const sendTimeout = 20 * time.Second

// handOver makes a TCP client and hands its socket over as the web server would: the sender's copy is closed without
// a shutdown (P-07). The client is closed at the end of the test.
func (d *daemon) handOver(kind fdrecv.Kind, payload string) *net.TCPConn {
	d.t.Helper()
	server, client := fdtest.TCPPair(d.t)
	defer server.Close()
	if err := fdrecv.Send(d.path(kind), kind, server.Int(), []byte(payload), sendTimeout); err != nil {
		d.t.Fatal(err)
	}
	return client
}

// hold is handOver for an endless stream: it returns when the client has read the head and the first event, so its
// stream is open.
func (d *daemon) hold(kind fdrecv.Kind, payload string) *net.TCPConn {
	d.t.Helper()
	client := d.handOver(kind, payload)
	var got []byte
	buffer := make([]byte, 4096)
	_ = client.SetReadDeadline(time.Now().Add(patience))
	for !bytes.HasSuffix(got, []byte("}\n\n")) {
		n, err := client.Read(buffer)
		got = append(got, buffer[:n]...)
		if err != nil {
			d.t.Fatalf("%q, then %v", got, err)
		}
	}
	if bytes.HasPrefix(got, []byte("HTTP/1.1 ")) == (kind == fdrecv.KindFDPass) || bytes.Contains(got, []byte("error")) {
		d.t.Fatalf("no stream over %v: %q", kind, got)
	}
	return client
}

// ask is handOver and the whole answer.
func (d *daemon) ask(kind fdrecv.Kind, payload string) answer {
	d.t.Helper()
	return parse(d.t, readAll(d.handOver(kind, payload)), kind == fdrecv.KindFDPass)
}

// event is an sse.Event that is kept.
type event struct {
	name, data string
	retry      time.Duration
}

// answer is everything that a client read.
type answer struct {
	status int         // 0 behind fdpass: not ours to send
	header http.Header // likewise
	body   []byte
	events []event // of an event stream
	bytes  int     // head and body
	err    error   // nil: the end came in good order
	at     time.Time
}

// raw is what came before it was parsed.
type raw struct {
	bytes []byte
	err   error
	at    time.Time
}

// readAll reads to the end. Any goroutine.
func readAll(client net.Conn) raw {
	_ = client.SetReadDeadline(time.Now().Add(patience))
	b, err := io.ReadAll(client)
	at := time.Now()
	_ = client.Close()
	return raw{bytes: b, err: err, at: at}
}

// readLater starts to read; the channel gives the outcome.
func readLater(client net.Conn) <-chan raw {
	c := make(chan raw, 1)
	go func() { c <- readAll(client) }()
	return c
}

// parse takes the answer apart. headSent: there is no head in front of the events.
func parse(t testing.TB, r raw, headSent bool) answer {
	t.Helper()
	a := answer{body: r.bytes, bytes: len(r.bytes), err: r.err, at: r.at}
	if !headSent {
		status, headLen, err := sse.ParseHead(r.bytes)
		if err != nil || status == 0 {
			t.Fatalf("no response head (%v) in %q, which ended with %v", err, r.bytes, r.err)
		}
		// Not http.ReadResponse: it keeps Connection to itself.
		_, lines, _ := bytes.Cut(r.bytes[:headLen], []byte("\r\n"))
		fields, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(lines))).ReadMIMEHeader()
		if err != nil {
			t.Fatal(err)
		}
		a.status, a.header, a.body = status, http.Header(fields), r.bytes[headLen:]
		if a.header.Get("Content-Type") != "text/event-stream" {
			return a
		}
	}
	var parser sse.Parser
	err := parser.Feed(a.body, func(e sse.Event) {
		a.events = append(a.events, event{name: string(e.Name), data: string(e.Data), retry: e.Retry})
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// last is the last event; the zero one when there is none.
func (a answer) last() event {
	if len(a.events) == 0 {
		return event{}
	}
	return a.events[len(a.events)-1]
}

// complete reports whether the stream ended by itself and in good order.
func (a answer) complete() bool {
	return a.err == nil && (a.status == http.StatusOK || a.status == 0) && a.last().data == "[DONE]"
}

// text joins the content of the events.
func (a answer) text(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	for _, e := range a.events {
		if e.data == "[DONE]" {
			continue
		}
		var content struct{ Content string }
		if err := json.Unmarshal([]byte(e.data), &content); err != nil {
			t.Fatalf("%q: %v", e.data, err)
		}
		b.WriteString(content.Content)
	}
	return b.String()
}

// contents is the number of events before [DONE].
func (a answer) contents() int { return len(a.events) - 1 }

// refused fails the test unless the answer is a refusal with the status, or behind fdpass an error event.
func (a answer) refused(t testing.TB, status int) {
	t.Helper()
	switch {
	case a.err != nil:
		t.Errorf("refusal broken off: %v after %q", a.err, a.body)
	case a.header == nil:
		if a.last().name != "error" || len(a.events) != 1 {
			t.Errorf("body %q, want one error event", a.body)
		}
	case a.status != status || a.header.Get("Content-Type") != "application/json":
		t.Errorf("status %d %v %q, want %d", a.status, a.header, a.body, status)
	default:
		var body struct{ Error struct{ Status int } }
		if err := json.Unmarshal(a.body, &body); err != nil || body.Error.Status != status {
			t.Errorf("body %q (%v), want JSON with status %d", a.body, err, status)
		}
	}
}

// wasReset reports whether a read ended with a reset.
func wasReset(err error) bool { return errors.Is(err, unix.ECONNRESET) }
