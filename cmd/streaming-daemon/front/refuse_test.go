package front_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/fdrecv/fdtest"
)

// Every row is refused before Send with the status and a JSON body that names it, and the message says what was wrong.
func TestRefused(t *testing.T) {
	const json400 = `{"prompt":"…"}`
	post := func(contentType, body string) string {
		return fmt.Sprintf("POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s",
			contentType, len(body), body)
	}
	get := func(target, fields string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: localhost\r\n" + fields + "\r\n"
	}
	large := `{"prompt":"` + strings.Repeat("a", 64<<10) + `"}`
	tests := []struct {
		name    string
		request string
		status  int
		message string // part of it
	}{
		{"HEAD", "HEAD /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, ""},
		{"PUT", "PUT /stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n", 405, "GET and POST"},
		{"OPTIONS", "OPTIONS /stream HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, "GET and POST"},
		{"HTTP/1.0", "GET /stream HTTP/1.0\r\nHost: localhost\r\n\r\n", 505, "HTTP/1.1"},

		{"bad escape", get("/stream?prompt=%zz", ""), 400, "query"},
		{"two prompts", get("/stream?prompt=a&prompt=b", ""), 400, "more than one"},
		{"query not UTF-8", get("/stream?prompt=%ff", ""), 400, "UTF-8"},

		{"form", post("application/x-www-form-urlencoded", "prompt=a"), 415, "application/json"},
		{"no type", post("", `{"prompt":"a"}`), 415, "application/json"},
		{"empty body", post("application/json", ""), 400, json400},
		{"no JSON", post("application/json", "prompt"), 400, json400},
		{"array", post("application/json", `["a"]`), 400, json400},
		{"null", post("application/json", "null"), 400, json400},
		{"no prompt", post("application/json", "{}"), 400, json400},
		{"prompt no string", post("application/json", `{"prompt":1}`), 400, json400},
		{"misspelled", post("application/json", `{"promt":"a"}`), 400, json400},
		{"unknown field", post("application/json", `{"prompt":"a","Promt":"b"}`), 400, json400},
		{"second value", post("application/json", `{"prompt":"a"}{}`), 400, "more than one"},
		{"trailing garbage", post("application/json", `{"prompt":"a"}]`), 400, "more than one"},
		{"body not UTF-8", post("application/json", "{\"prompt\":\"\xff\"}"), 400, "UTF-8"},
		{"large body", post("application/json", large), 413, "larger"},
		{"large body in chunks", "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(large), large), 413, "larger"},
		{"bad chunk", "POST /stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
			"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "could not be read"},

		{"other site", get("/stream", "Origin: http://example.com\r\n"), 403, "own page"},
		{"other site, POST", strings.Replace(post("application/json", `{"prompt":"a"}`), "\r\n\r\n", "\r\nOrigin: http://example.com\r\n\r\n", 1), 403, "own page"},
		{"other port", get("/stream", "Origin: http://localhost:1\r\n"), 403, "own page"},
		{"null origin", get("/stream", "Origin: null\r\n"), 403, "own page"},
		{"fetch metadata: cross-site", get("/stream", "Sec-Fetch-Site: cross-site\r\n"), 403, "own page"},
		{"fetch metadata: same-site", get("/stream", "Sec-Fetch-Site: same-site\r\n"), 403, "own page"},
		{"rebound name", "GET /stream HTTP/1.1\r\nHost: example.com:8080\r\nOrigin: http://example.com:8080\r\n\r\n", 421, "localhost"},
		{"rebound name, page", "GET / HTTP/1.1\r\nHost: localhost.example.com\r\n\r\n", 421, "localhost"},
		{"other machine's address", "GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 421, "localhost"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startFront(t, front.Config{Send: func(int, []byte) error {
				t.Error("it was handed over")
				return nil
			}}, front.Limits{})
			c := dial(t, s)
			if _, err := c.Write([]byte(tt.request)); err != nil {
				t.Fatal(err)
			}
			method, _, _ := strings.Cut(tt.request, " ")
			response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
			if err != nil {
				t.Fatal(err)
			}
			body := readAll(t, response.Body)
			if response.StatusCode != tt.status {
				t.Fatalf("%s, want %d: %s", response.Status, tt.status, body)
			}
			if tt.status == 405 && response.Header.Get("Allow") != "GET, POST" {
				t.Errorf("Allow: %q", response.Header.Get("Allow"))
			}
			if method == "HEAD" {
				return // no body to look at
			}
			var answer struct {
				Error struct {
					Status  int
					Message string
				}
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Error.Status != tt.status ||
				!strings.Contains(answer.Error.Message, tt.message) {
				t.Errorf("body %q, want status %d and a message about %q", body, tt.status, tt.message)
			}
			if got := response.Header.Get("Content-Type"); got != "application/json" {
				t.Errorf("Content-Type %q", got)
			}
		})
	}
}

// What the page itself, curl and the address bar send is let through.
func TestNotRefused(t *testing.T) {
	tests := []struct{ name, host, fields string }{
		{"curl", "127.0.0.1:8080", ""},
		{"no port", "127.0.0.1", ""},
		{"IPv6", "[::1]:8080", ""},
		{"IPv6, no port", "[::1]", ""},
		{"name", "LocalHost:8080", ""},
		{"name below localhost", "demo.localhost:8080", ""},
		{"own page", "localhost:8080", "Origin: http://localhost:8080\r\nSec-Fetch-Site: same-origin\r\n"},
		{"own page, no fetch metadata", "localhost:8080", "Origin: http://localhost:8080\r\n"},
		{"address bar", "localhost:8080", "Sec-Fetch-Site: none\r\n"},
	}
	fdtest.NoLeaks(t)
	d := newDaemon(t)
	s := startFront(t, front.Config{Send: d.send}, front.Limits{})
	for _, tt := range tests {
		c := dial(t, s)
		fmt.Fprintf(c, "GET /stream?prompt=a HTTP/1.1\r\nHost: %s\r\n%s\r\n", tt.host, tt.fields)
		// A refusal would come in place of the handoff: whichever is first tells.
		response := make(chan string, 1)
		go func() {
			line, _ := bufio.NewReader(c).ReadString('\n')
			response <- line
		}()
		select {
		case h := <-d:
			if err := h.write(h.head()); err != nil {
				t.Error(err)
			}
			_ = h.fd.Close()
			if line := <-response; !strings.HasPrefix(line, "HTTP/1.1 200") {
				t.Errorf("%s: %q", tt.name, line)
			}
		case line := <-response:
			t.Errorf("%s: %q", tt.name, line)
		}
	}
}
