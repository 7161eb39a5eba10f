package sse_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"streaming-daemon-go/sse"
)

// The golden bytes stand here, not in a file: no editor or checkout can turn
// their CRLF into something else.
func TestAppendHead(t *testing.T) {
	const golden = "HTTP/1.1 200 OK\r\n" +
		"Content-Type: text/event-stream\r\n" +
		"Cache-Control: no-cache\r\n" +
		"Connection: close\r\n" +
		"X-Accel-Buffering: no\r\n"
	tests := []struct {
		name  string
		extra []sse.Header
		want  string
	}{
		{"none", nil, golden + "\r\n"},
		{"two in order", []sse.Header{{Name: "X-B", Value: "2"}, {Name: "X-A", Value: "1"}},
			golden + "X-B: 2\r\nX-A: 1\r\n\r\n"},
		{"one twice", []sse.Header{{Name: "Set-Cookie", Value: "a"}, {Name: "Set-Cookie", Value: "b"}},
			golden + "Set-Cookie: a\r\nSet-Cookie: b\r\n\r\n"},
		{"bad ones left out", []sse.Header{
			{Name: "X-A", Value: "1\r\n\r\ndata: forged"}, {Name: "connection", Value: "keep-alive"},
			{Name: "", Value: "x"}, {Name: "X-B", Value: "2"},
		}, golden + "X-B: 2\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := sse.AppendHead([]byte("before"), tt.extra)
			if string(got) != "before"+tt.want {
				t.Errorf("got  %q\nwant %q", got, "before"+tt.want)
			}
		})
	}
}

func TestAppendRejectionGolden(t *testing.T) {
	got := sse.AppendRejection([]byte("before"), 503, 5,
		[]sse.Header{{Name: "Access-Control-Allow-Origin", Value: "*"}}, `too "many" streams`)
	const want = "before" +
		"HTTP/1.1 503 Service Unavailable\r\n" +
		"Content-Type: application/json\r\n" +
		"Content-Length: 58\r\n" +
		"Cache-Control: no-store\r\n" +
		"Connection: close\r\n" +
		"Retry-After: 5\r\n" +
		"Access-Control-Allow-Origin: *\r\n" +
		"\r\n" +
		`{"error":{"status":503,"message":"too \"many\" streams"}}` + "\n"
	if string(got) != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// Goal: any HTTP client reads a rejection whole. Method: net/http's own reader,
// over every status there is and texts that need escaping or a large body.
func TestAppendRejectionReadsBack(t *testing.T) {
	messages := []string{"", "plain", "two\r\nlines \"and\" \\quotes\\", "\xff\u2028", strings.Repeat("long ", 1000)}
	for status := -1; status <= 1000; status++ {
		message := messages[(status+1)%len(messages)]
		retryAfterSeconds := status % 3
		wantStatus := status
		if status < 400 || status > 599 {
			wantStatus = 500
		}
		extra := []sse.Header{{Name: "X-A", Value: "1"}, {Name: "X-B\r\n", Value: "2"}, {Name: "retry-after", Value: "99"}}
		raw := sse.AppendRejection(nil, status, retryAfterSeconds, extra, message)

		r := bufio.NewReader(bytes.NewReader(raw))
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%d: %v in %q", status, err, raw)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatalf("%d: body: %v", status, err)
		}
		if n := r.Buffered(); n != 0 {
			t.Fatalf("%d: %d bytes after the body: %q", status, n, raw)
		}
		if want := fmt.Sprintf("%d %s", wantStatus, http.StatusText(wantStatus)); resp.Status != want {
			t.Errorf("%d: status line says %q, want %q", status, resp.Status, want)
		}
		if resp.ContentLength != int64(len(body)) || !resp.Close {
			t.Errorf("%d: Content-Length %d for %d bytes, close %v", status, resp.ContentLength, len(body), resp.Close)
		}
		wantRetry := "[99]" // the caller's own, unless ours replaces it
		if retryAfterSeconds > 0 {
			wantRetry = fmt.Sprintf("[%d]", retryAfterSeconds)
		}
		if got := fmt.Sprint(resp.Header["Retry-After"]); got != wantRetry {
			t.Errorf("%d: Retry-After %s, want %s", status, got, wantRetry)
		}
		if resp.Header.Get("X-A") != "1" || resp.Header.Get("X-B") != "" {
			t.Errorf("%d: header is %v", status, resp.Header)
		}
		var got struct {
			Error struct {
				Status  int
				Message string
			}
		}
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatalf("%d: %v in body %q", status, err, body)
		}
		if got.Error.Status != wantStatus || got.Error.Message != viaJSON(t, message) {
			t.Errorf("%d: body says %+v, want message %q", status, got, message)
		}
		if bytes.IndexByte(body, '\n') != len(body)-1 {
			t.Errorf("%d: body %q is not one line", status, body)
		}
	}
}

// Goal: a head is found wherever the pieces were cut, and its length is exact.
// Method: every prefix of our own responses, with a body behind them.
func TestParseHead(t *testing.T) {
	for _, tt := range []struct {
		name   string
		head   string
		status int
	}{
		{"stream", string(sse.AppendHead(nil, []sse.Header{{Name: "X", Value: "y"}})), 200},
		{"no phrase", "HTTP/1.1 599 \r\n\r\n", 599},
		{"no space either", "HTTP/1.1 404\r\n\r\n", 404},
		{"HTTP/1.0", "HTTP/1.0 301 Moved Permanently\r\nLocation: /\r\n\r\n", 301},
		{"rejection", strings.SplitAfter(string(sse.AppendRejection(nil, 408, 0, nil, "x")), "\r\n\r\n")[0], 408},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for n := range len(tt.head) {
				status, headLen, err := sse.ParseHead([]byte(tt.head[:n]))
				if status != 0 || headLen != 0 || err != nil {
					t.Fatalf("%d bytes: %d, %d, %v", n, status, headLen, err)
				}
			}
			for _, body := range []string{"", "data: x\n\n", "\r\n\r\n"} {
				status, headLen, err := sse.ParseHead([]byte(tt.head + body))
				if status != tt.status || headLen != len(tt.head) || err != nil {
					t.Fatalf("body %q: %d, %d, %v; want %d, %d", body, status, headLen, err, tt.status, len(tt.head))
				}
			}
		})
	}
}

func TestParseHeadRefuses(t *testing.T) {
	const line = "HTTP/1.1 200 OK\r\n"
	fill := func(n int) string {
		return line + "X: " + strings.Repeat("y", n-len(line)-len("X: \r\n\r\n")) + "\r\n\r\n"
	}
	tests := []struct {
		name string
		in   string
		want error
	}{
		{"an event", "data: x\n\n", sse.ErrHeadMalformed},
		{"its first byte", "d", sse.ErrHeadMalformed},
		{"HTTP/2", "HTTP/2 200\r\n\r\n", sse.ErrHeadMalformed},
		{"two digits", "HTTP/1.1 20 OK\r\n\r\n", sse.ErrHeadMalformed},
		{"four digits", "HTTP/1.1 2000\r\n\r\n", sse.ErrHeadMalformed},
		{"letter in status", "HTTP/1.1 2x0 OK\r\n\r\n", sse.ErrHeadMalformed},
		{"largest", fill(64 << 10), nil},
		{"one more", fill(64<<10 + 1), sse.ErrHeadTooLarge},
		{"no end", line + strings.Repeat("y", 64<<10), sse.ErrHeadTooLarge},
		{"no end yet", (line + strings.Repeat("y", 64<<10))[:64<<10-1], nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, headLen, err := sse.ParseHead([]byte(tt.in))
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if err != nil && (status != 0 || headLen != 0) {
				t.Fatalf("status %d, headLen %d beside an error", status, headLen)
			}
		})
	}
}
