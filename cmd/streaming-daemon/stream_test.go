package main_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse/demo"
)

// TestEndToEnd: each protocol, with all that a payload can ask for, to a TCP client.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	d := start(t)
	const prompt = "Zwölf Boxkämpfer jagen Viktor\nquer über den \"großen\" Sylter Deich 🦊"
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket} {
		a := d.ask(kind, fmt.Sprintf(`{"prompt":%q,"user_id":42,"model":"m","request_id":"r1","extra":{"deep":[1]},`+
			`"response_headers":{"X-Request-Id":"r1","Content-Type":"text/html","Bad Name":"x","X-Crlf":"a\r\nSet-Cookie: b"}}`, prompt))
		if !a.complete() || a.text(t) != "Hello! You said: "+prompt {
			t.Errorf("%v: %q, %+v", kind, a.text(t), a)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "Connection": "close",
			"X-Accel-Buffering": "no", "X-Request-Id": "r1", "X-Crlf": "", "Set-Cookie": "", "Transfer-Encoding": "",
		} {
			if got := strings.Join(a.header.Values(name), ", "); got != want {
				t.Errorf("%v: header %s is %q, want %q", kind, name, got, want)
			}
		}
		// A lone NUL byte stands for no payload.
		if a = d.ask(kind, ""); !a.complete() || a.text(t) != "Hello! You sent no prompt." {
			t.Errorf("%v without a payload: %+v", kind, a)
		}
	}
	// fdpass: the head is Apache's (P-09), so the first byte is already the stream's.
	if a := d.ask(fdrecv.KindFDPass, ""); !a.complete() || !bytes.HasPrefix(a.body, []byte("data: ")) {
		t.Errorf("fdpass: %q, %v", a.body, a.err)
	}
}

// The largest payload goes through both sockets (P-04, P-06); the prompt is cut at 100 characters, not bytes.
func TestLargestPayload(t *testing.T) {
	t.Parallel()
	d := start(t)
	const frame = len(`{"prompt":""}`)
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket} {
		prompt := strings.Repeat("ü", (fdrecv.PayloadMax-frame)/2)
		a := d.ask(kind, `{"prompt":"`+prompt+`"}`)
		if !a.complete() || a.text(t) != "Hello! You said: "+strings.Repeat("ü", 100) {
			t.Errorf("%v: status %d, %d events, %v", kind, a.status, len(a.events), a.err)
		}
	}
	// One byte too many. With more, the sender would see the daemon leave in the middle.
	d.ask(fdrecv.KindStream, `{"prompt":"`+strings.Repeat("u", fdrecv.PayloadMax+1-frame)+`"}`).refused(t, http.StatusRequestEntityTooLarge)
}

// The words come one at a time: with 300 ms between them the first is there well before the second is due.
func TestFirstEventComesWithTheHead(t *testing.T) {
	t.Parallel()
	d := start(t, "-demo-delay", "1h", "-heartbeat-interval", "200ms")
	client := d.handOver(fdrecv.KindSeqpacket, `{"prompt":"x"}`)
	got := make([]byte, 4096)
	_ = client.SetReadDeadline(time.Now().Add(patience))
	n, err := client.Read(got)
	if err != nil {
		t.Fatal(err)
	}
	head, body, _ := bytes.Cut(got[:n], []byte("\r\n\r\n"))
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 OK\r\n")) || string(body) != "data: {\"content\":\"Hello!\"}\n\n" {
		t.Errorf("the first write is %q", got[:n])
	}
	if n, err = client.Read(got); err != nil || string(got[:n]) != ": heartbeat\n\n" {
		t.Errorf("then %q, %v, want a heartbeat", got[:n], err)
	}
}

// Without a delay, 20 MB go to four clients as fast as they read: every byte, in order.
func TestAsFastAsTheClientReads(t *testing.T) {
	t.Parallel()
	const clients, messages = 4, 5 << 20 / len(demo.Message)
	d := start(t, "-demo-delay", "0", "-demo-messages", fmt.Sprint(messages))
	want := strings.Repeat(demo.Message, messages) + "data: [DONE]\n\n"
	var answers []<-chan raw
	for i := range clients {
		answers = append(answers, readLater(d.handOver(kinds[i%len(kinds)], "")))
	}
	for i, c := range answers {
		r := <-c
		body := r.bytes
		if kinds[i%len(kinds)] != fdrecv.KindFDPass {
			_, body, _ = bytes.Cut(r.bytes, []byte("\r\n\r\n"))
		}
		if r.err != nil || string(body) != want {
			t.Errorf("client %d: %d bytes and %v, want %d bytes", i, len(body), r.err, len(want))
		}
	}
}

// A client that sends while it is streamed to (P-12), a megabyte here, gets its [DONE] all the same and no reset.
func TestClientThatTalksGetsItsEnd(t *testing.T) {
	t.Parallel()
	d := start(t, "-demo-messages", "50", "-demo-delay", "2ms")
	for _, kind := range kinds {
		client := d.handOver(kind, "")
		sent := make(chan error, 1)
		go func() {
			_, err := client.Write(make([]byte, 1<<20))
			sent <- err
		}()
		if a := parse(t, readAll(client), kind == fdrecv.KindFDPass); !a.complete() || a.contents() != 50 {
			t.Errorf("%v: %d events, %v", kind, len(a.events), a.err)
		}
		if err := <-sent; err != nil {
			t.Errorf("%v: %v", kind, err)
		}
	}
}

// Goal: what waits for all clients together is bounded, and those who read do not pay for those who do not. Method:
// eight clients that read nothing want 64 KiB each to wait, where 256 KiB may; meanwhile others get 2 MB each.
func TestSlowClientsAreEvicted(t *testing.T) {
	t.Parallel()
	const messages = 2 << 20 / len(demo.Message)
	const slow, limit = 8, 256 << 10
	d := start(t, "-demo-delay", "0", "-demo-messages", fmt.Sprint(messages), "-max-pending-bytes", fmt.Sprint(limit))
	var unread []*net.TCPConn
	for range slow {
		unread = append(unread, d.handOver(fdrecv.KindSeqpacket, ""))
	}
	eventually(t, "an eviction", func() bool { return d.metric("daemon_evicted_total") >= slow-limit>>16 })
	for range 3 { // one after the other: they hold 64 KiB at most
		if a := d.ask(fdrecv.KindStream, ""); !a.complete() || a.contents() != messages {
			t.Errorf("a client that reads: %d events, %v", len(a.events), a.err)
		}
	}
	samples := d.scrape()
	if waiting := samples["daemon_pending_bytes"]; waiting > limit {
		t.Errorf("%v bytes wait, %d may", waiting, limit)
	}
	resets := 0.0
	for _, client := range unread {
		// Not all of it: one that was not evicted would get its whole stream now.
		_ = client.SetReadDeadline(time.Now().Add(patience))
		if n, err := io.Copy(io.Discard, io.LimitReader(client, 1<<20)); wasReset(err) {
			resets++
		} else if err != nil || n != 1<<20 {
			t.Errorf("a client that was not evicted: %d bytes, %v", n, err)
		}
		_ = client.Close()
	}
	d.awaitMetric("daemon_active_connections", 0)
	samples = d.scrape()
	if evicted := samples["daemon_evicted_total"]; resets != evicted || samples[`daemon_stream_errors_total{reason="canceled"}`] != evicted {
		t.Errorf("%v resets, %v evicted, %v canceled", resets, evicted, samples[`daemon_stream_errors_total{reason="canceled"}`])
	}
	d.awaitLog("the slowest were evicted")
}

// A client that takes no byte for -write-timeout is closed; one that reads is not, however long its stream is.
func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	const messages = 8 << 20 / len(demo.Message)
	d := start(t, "-demo-delay", "0", "-demo-messages", fmt.Sprint(messages), "-write-timeout", "500ms")
	stuck := d.handOver(fdrecv.KindSeqpacket, "")
	eventually(t, "the stream to pause", func() bool { return d.metric("daemon_paused_streams") == 1 })
	if waiting := d.metric("daemon_pending_bytes"); waiting < 64<<10 || waiting > 128<<10 {
		t.Errorf("%v bytes wait for a client at the high watermark (64 KiB)", waiting)
	}
	d.awaitMetric(`daemon_stream_errors_total{reason="timeout"}`, 1)
	d.awaitMetric("daemon_active_connections", 0)
	if r := readAll(stuck); !wasReset(r.err) {
		t.Errorf("it read %d bytes and %v, want a reset", len(r.bytes), r.err)
	}
	if a := d.ask(fdrecv.KindStream, ""); !a.complete() {
		t.Errorf("a client that reads: %d events, %v", len(a.events), a.err)
	}
}
