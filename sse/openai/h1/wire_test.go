package h1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"streaming-daemon-go/sse/openai/h1"
	"streaming-daemon-go/sse/openai/upstream"
)

// answer is what a receiver heard, without a loop.
type answer struct {
	heads                  int
	status                 int
	contentType, retry     string
	body                   []byte
	ends                   int
	err                    error
	afterEnd, bodyTooEarly bool
}

func (a *answer) Head(h upstream.Head) {
	a.heads++
	a.status, a.contentType, a.retry = h.Status, string(h.ContentType), string(h.RetryAfter)
}

func (a *answer) Body(b []byte) {
	a.bodyTooEarly = a.bodyTooEarly || a.heads == 0
	a.afterEnd = a.afterEnd || a.ends > 0 || len(b) == 0
	a.body = append(a.body, b...)
}
func (a *answer) End()           { a.ends++ }
func (a *answer) Fail(err error) { a.ends++; a.err = err }

func (a *answer) String() string {
	return fmt.Sprintf("%d heads, status %d, type %q, retry %q, body %q, %d ends, error %v",
		a.heads, a.status, a.contentType, a.retry, a.body, a.ends, a.err)
}

// take reads a response that comes in pieces, and then the end of its connection if eof is set.
func take(pieces [][]byte, eof bool) (*answer, bool) {
	a := &answer{}
	return a, h1.Take(a, pieces, eof)
}

// bytewise cuts text into bytes.
func bytewise(text string) [][]byte {
	var pieces [][]byte
	for i := range len(text) {
		pieces = append(pieces, []byte(text[i:i+1]))
	}
	return pieces
}

// TestResponses: what is read of a response, and whether its connection may be used again. Each row is read whole,
// byte by byte, and cut in two at every place: the result must be the same.
func TestResponses(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	chunked := ok + "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		name, in string
		status   int
		body     string
		reusable bool
		err      error // nil: complete
	}{
		{"length", ok + "Content-Length: 5\r\n\r\nhello", 200, "hello", true, nil},
		{"length 0", ok + "Content-Length: 0\r\n\r\n", 200, "", true, nil},
		{"same length twice", ok + "Content-Length: 5\r\ncontent-length: 5\r\n\r\nhello", 200, "hello", true, nil},
		{"closes", ok + "Content-Length: 5\r\nConnection: x , Close\r\n\r\nhello", 200, "hello", false, nil},
		{"until close", ok + "\r\nhello", 200, "hello", false, nil},
		{"no phrase", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, nil},
		{"LF alone", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", 200, "ok", true, nil},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, "ok", false, nil},
		{"HTTP/1.0 kept", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok", 200, "ok", true, nil},
		{"HTTP/1.0 kept and closed", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nConnection: keep-alive\r\n\r\nok", 200, "ok", false, nil},
		{"204", "HTTP/1.1 204 No Content\r\n\r\n", 204, "", true, nil},
		{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, "", true, nil},
		{"interim", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 7\r\n\r\n" + ok + "Content-Length: 2\r\n\r\nok", 200, "ok", true, nil},
		{"identity", ok + "Content-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", 200, "ok", true, nil},

		{"chunked", chunked + "5\r\nhello\r\n1 \r\n \r\n05;x=\"y\"\r\nworld\r\n0\r\n\r\n", 200, "hello world", true, nil},
		{"chunked, trailers", chunked + "A\r\n0123456789\r\n000\r\nX: y\r\nZ:\r\n\r\n", 200, "0123456789", true, nil},
		{"chunked, long trailers", chunked + "1\r\nx\r\n0\r\nX: " + strings.Repeat("y", 2000) + "\r\n\r\n", 200, "x", true, nil},
		{"chunked and a length", ok + "Content-Length: 3\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 200, "ok", false, nil},
		{"chunked, cut in data", chunked + "5\r\nhel", 200, "hel", false, upstream.ErrBroken},
		{"chunked, cut before the last chunk", chunked + "5\r\nhello\r\n", 200, "hello", false, upstream.ErrBroken},
		{"chunked, cut in the last line", chunked + "5\r\nhello\r\n0\r\n\r", 200, "hello", false, upstream.ErrBroken},
		{"chunked, no size", chunked + "\r\n", 200, "", false, upstream.ErrProtocol},
		{"chunked, a minus", chunked + "-1\r\n", 200, "", false, upstream.ErrProtocol},
		{"chunked, size too large", chunked + "8000000000000000\r\n", 200, "", false, upstream.ErrProtocol},
		{"chunked, no CRLF after data", chunked + "2\r\nokX\n0\r\n\r\n", 200, "ok", false, upstream.ErrProtocol},
		{"chunked, LF after a size", chunked + "2\nok\r\n0\r\n\r\n", 200, "", false, upstream.ErrProtocol},
		{"chunked, long extension", chunked + "2;" + strings.Repeat("x", 2000) + "\r\nok\r\n0\r\n\r\n", 200, "", false, upstream.ErrProtocol},
		{"chunked, endless trailers", chunked + "0\r\n" + strings.Repeat("X: y\r\n", 4000), 200, "", false, upstream.ErrProtocol},

		{"cut in the head", ok + "Content-Le", 0, "", false, upstream.ErrBroken},
		{"cut in the body", ok + "Content-Length: 5\r\n\r\nhell", 200, "hell", false, upstream.ErrBroken},
		{"nothing", "", 0, "", false, upstream.ErrBroken},
		{"lengths differ", ok + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"length list", ok + "Content-Length: 5, 5\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"length signed", ok + "Content-Length: +5\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"length overflows", ok + "Content-Length: 9223372036854775808\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"gzip", ok + "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"another coding", ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"chunked twice", ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"folded line", ok + "X: y\r\n Content-Length: 5\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"space before the colon", ok + "Content-Length : 5\r\n\r\nhello", 0, "", false, upstream.ErrProtocol},
		{"no colon", ok + "Content-Length\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"no name", ok + ": 5\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"CR in a value", ok + "X: a\rb\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"not HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"not HTTP, no line end", "SSH", 0, "", false, upstream.ErrProtocol},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"status 99", "HTTP/1.1 099 OK\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"101", "HTTP/1.1 101 Switching Protocols\r\n\r\n", 0, "", false, upstream.ErrProtocol},
		{"an endless head", ok + strings.Repeat("X: y\r\n", h1.HeadBytesMax/6), 0, "", false, upstream.ErrProtocol},
		{"too long a head", ok + strings.Repeat("X: y\r\n", h1.HeadBytesMax/6) + "\r\n", 0, "", false, upstream.ErrProtocol},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check := func(how string, pieces [][]byte) {
				t.Helper()
				a, reusable := take(pieces, true)
				heads := 0
				if tt.status != 0 {
					heads = 1
				}
				if !errors.Is(a.err, tt.err) || (tt.err == nil) != (a.err == nil) || a.status != tt.status || a.heads != heads ||
					string(a.body) != tt.body || a.ends != 1 || a.afterEnd || a.bodyTooEarly || reusable != tt.reusable {
					t.Fatalf("%s: %v, reusable %v", how, a, reusable)
				}
			}
			check("whole", [][]byte{[]byte(tt.in)})
			check("byte by byte", bytewise(tt.in))
			if len(tt.in) < 1000 {
				for i := range len(tt.in) {
					check(fmt.Sprint("cut at ", i), [][]byte{[]byte(tt.in[:i]), []byte(tt.in[i:])})
				}
			}
		})
	}
}

// TestBytesAfterTheBody: a connection on which more came than was asked for is not used again.
func TestBytesAfterTheBody(t *testing.T) {
	a, reusable := take([][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello!")}, true)
	if string(a.body) != "hello" || a.ends != 1 || a.err != nil || reusable {
		t.Fatal(a, reusable)
	}
}

func TestHeadFields(t *testing.T) {
	a, _ := take([][]byte{[]byte("HTTP/1.1 429 Slow Down\r\ncontent-TYPE: \t text/plain; x=y \r\nRETRY-after: 7\r\nRetry-After: 9\r\nContent-Length: 0\r\n\r\n")}, true)
	if a.status != 429 || a.contentType != "text/plain; x=y" || a.retry != "7" || a.err != nil {
		t.Fatal(a)
	}
	a, _ = take([][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}, true)
	if a.contentType != "" || a.retry != "" {
		t.Fatal(a)
	}
}

// cutAt cuts b at places that are drawn from seed.
func cutAt(b []byte, seed uint64) [][]byte {
	var pieces [][]byte
	for len(b) > 0 {
		seed = seed*6364136223846793005 + 1442695040888963407
		n := min(len(b), 1+int(seed>>60))
		if seed>>40&7 == 0 {
			n = len(b)
		}
		pieces = append(pieces, b[:n:n])
		b = b[n:]
	}
	return pieces
}

// FuzzResponse: whatever the bytes, a response is read the same however it is cut, it ends exactly once, and where
// net/http reads it to a good end too, both have read the same.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 200\r\nConnection: keep-alive\r\n\r\nrest", "HTTP/1.1 204 N\r\n\r\n", "HTTP/1.1 200 OK\nA:\n\n",
	} {
		f.Add([]byte(seed), uint64(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		whole, _ := take([][]byte{bytes.Clone(in)}, true)
		cut, _ := take(cutAt(bytes.Clone(in), seed), true)
		if whole.String() != cut.String() {
			t.Fatalf("whole: %v\ncut:   %v", whole, cut)
		}
		if whole.ends != 1 || whole.afterEnd || whole.bodyTooEarly {
			t.Fatal(whole)
		}
		if whole.err != nil {
			return
		}
		r := bufio.NewReader(bytes.NewReader(in))
		for {
			ref, err := http.ReadResponse(r, &http.Request{Method: "POST"})
			if err != nil {
				return // it is stricter in what it does not need to be
			}
			if ref.StatusCode < 200 {
				continue
			}
			body, err := io.ReadAll(ref.Body)
			if err == nil && (ref.StatusCode != whole.status || !bytes.Equal(body, whole.body)) {
				t.Fatalf("net/http reads %d %q, we read %v", ref.StatusCode, body, whole)
			}
			return
		}
	})
}

// FuzzChunked: the decoder gives the same however the bytes are cut, and where it finds a complete body, net/http's
// decoder finds the same data; encoded data comes back as it was.
func FuzzChunked(f *testing.F) {
	f.Add([]byte("5\r\nhello\r\n0\r\n\r\n"), uint64(1))
	f.Add([]byte("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\nrest"), uint64(2))
	f.Add([]byte("fFfFfF\r\nx"), uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, seed uint64) {
		data, rest, done, err := h1.Decode([][]byte{in})
		cutData, cutRest, cutDone, cutErr := h1.Decode(cutAt(in, seed))
		if !bytes.Equal(data, cutData) || !bytes.Equal(rest, cutRest) || done != cutDone || (err == nil) != (cutErr == nil) {
			t.Fatalf("whole: %q %q %v %v\ncut:   %q %q %v %v", data, rest, done, err, cutData, cutRest, cutDone, cutErr)
		}
		if done {
			if ref, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(in))); err == nil && !bytes.Equal(ref, data) {
				t.Fatalf("net/http decodes %q, we %q", ref, data)
			}
		}
		var encoded bytes.Buffer
		w := httputil.NewChunkedWriter(&encoded)
		for _, p := range cutAt(in, seed) {
			if _, err := w.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		_ = w.Close()
		encoded.WriteString("\r\nnext")
		data, rest, done, err = h1.Decode(cutAt(encoded.Bytes(), seed+1))
		if !bytes.Equal(data, in) || string(rest) != "next" || !done || err != nil {
			t.Fatalf("%q encoded came back as %q, rest %q, %v %v", in, data, rest, done, err)
		}
	})
}
