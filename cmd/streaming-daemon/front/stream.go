package front

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"time"
	"unicode/utf8"

	"streaming-daemon-go/sse"
)

// answerTimeout is for the 503 after a failed handoff: some 200 bytes, which the kernel takes at once.
const answerTimeout = 5 * time.Second

// retryAfterSeconds goes with that 503: a full backlog clears in less.
const retryAfterSeconds = 1

// stream serves GET and POST /stream: it reads the request whole, then gives the client away.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	if !r.ProtoAtLeast(1, 1) { // the daemon's answer is HTTP/1.1 (P-16)
		refuse(w, &refusal{http.StatusHTTPVersionNotSupported, "streams need HTTP/1.1"})
		return
	}
	var prompt string
	var bad *refusal
	switch r.Method {
	case http.MethodGet:
		prompt, bad = promptOfQuery(r.URL.RawQuery)
	case http.MethodPost:
		prompt, bad = s.promptOfBody(w, r)
	default:
		w.Header().Set("Allow", "GET, POST")
		bad = &refusal{http.StatusMethodNotAllowed, "/stream takes GET and POST"}
	}
	if bad != nil {
		refuse(w, bad)
		return
	}
	s.handOver(w, prompt)
}

// promptOfQuery: ?prompt=…, at most once. None is an empty prompt, which backends have an answer to.
func promptOfQuery(query string) (string, *refusal) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", &refusal{http.StatusBadRequest, "the query is not well-formed"}
	}
	prompts := values["prompt"]
	if len(prompts) > 1 {
		return "", &refusal{http.StatusBadRequest, "the query has more than one prompt"}
	}
	prompt := ""
	if len(prompts) == 1 {
		prompt = prompts[0]
	}
	if !utf8.ValidString(prompt) {
		return "", &refusal{http.StatusBadRequest, "the prompt is not UTF-8"}
	}
	return prompt, nil
}

// promptOfBody: {"prompt":"…"} as application/json. After success the body has been read to its end, so nothing of it
// is left in the socket that is handed over (P-12) or in net/http's buffer, where the daemon could not see it.
func (s *Server) promptOfBody(w http.ResponseWriter, r *http.Request) (string, *refusal) {
	mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "application/json" {
		return "", &refusal{http.StatusUnsupportedMediaType, "the body has to be application/json"}
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyBytes))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return "", &refusal{http.StatusRequestEntityTooLarge, "the body is larger than this server takes"}
	}
	if err != nil {
		return "", &refusal{http.StatusBadRequest, "the body could not be read to its end"}
	}
	if !utf8.Valid(body) { // encoding/json would put U+FFFD in its place
		return "", &refusal{http.StatusBadRequest, "the body is not UTF-8"}
	}
	var request struct {
		Prompt *string `json:"prompt"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields() // a misspelled "prompt" would otherwise be an empty one
	if err := d.Decode(&request); err != nil || request.Prompt == nil {
		return "", &refusal{http.StatusBadRequest, `the body has to be {"prompt":"…"}`}
	}
	if _, err := d.Token(); err != io.EOF {
		return "", &refusal{http.StatusBadRequest, "the body has more than one JSON value"}
	}
	return *request.Prompt, nil
}

// payload makes what goes beside the descriptor, as a PHP script would in X-Handoff-Data. A prompt of 64 KiB stays well
// below the 212,960 bytes of a handoff message: JSON escapes at most double it (U+2028, three bytes, becomes six) but
// for control characters, and those came in as long escapes themselves.
func payload(prompt, requestID string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // nobody parses it as HTML, and '<' would grow sixfold
	err := e.Encode(struct {
		Prompt          string            `json:"prompt"`
		UserID          string            `json:"user_id"`
		RequestID       string            `json:"request_id"`
		ResponseHeaders map[string]string `json:"response_headers"`
	}{prompt, "front", requestID, map[string]string{"X-Request-Id": requestID}})
	if err != nil {
		panic(err) // strings only: it cannot fail
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// handOver takes the client socket from net/http, gives it to Send, and closes our copy, which leaves the client to
// whoever received it. Send's failure is answered here. A request that the client pipelined behind this one and that
// net/http has read already is lost, as it is with Apache (P-05); the answer says Connection: close.
func (s *Server) handOver(w http.ResponseWriter, prompt string) {
	requestID := rand.Text()
	conn, _, err := http.NewResponseController(w).Hijack() // clears net/http's deadlines
	if err != nil {
		panic(err) // HTTP/1.1 without TLS: net/http has no reason to refuse
	}
	defer s.http.GiveBack()
	// Close alone, no CloseWrite: close(2) ends our copy, shutdown(2) would end the connection for the daemon too
	// (P-07). Before it, Go's runtime takes the descriptor out of its own epoll set, which closing would not do while
	// the daemon's copy lives.
	defer conn.Close()
	start := time.Now()
	if err = s.sendConn(conn, payload(prompt, requestID)); err == nil {
		s.log.Debug("front: handed over", "request_id", requestID, "took", time.Since(start))
		return
	}
	s.warn("front: handoff failed, client got 503", "request_id", requestID, "err", err)
	_ = conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	// A client that is gone cannot be told.
	_, _ = conn.Write(sse.AppendRejection(nil, http.StatusServiceUnavailable, retryAfterSeconds,
		[]sse.Header{{Name: "X-Request-Id", Value: requestID}}, "the daemon did not take the handoff: see its log"))
}

// warn logs at most one line a second: when handoffs fail, all of them do.
func (s *Server) warn(message string, args ...any) {
	now, last := int64(time.Since(s.started)/time.Second)+1, s.warned.Load()
	if now != last && s.warned.CompareAndSwap(last, now) {
		s.log.Warn(message, args...)
	}
}
