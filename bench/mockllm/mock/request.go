package mock

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// requestMax bounds a request's body, in bytes: prompts with images in them are megabytes.
const requestMax = 32 << 20

// apiError is an answer other than a stream, as the API gives it.
type apiError struct {
	status                     int
	message, kind, param, code string
}

func (e *apiError) Error() string { return e.message }

// write answers with e.
func (e *apiError) write(w http.ResponseWriter) {
	null := func(s string) any {
		if s == "" {
			return nil
		}
		return s
	}
	body, _ := json.Marshal(map[string]any{"error": map[string]any{ // strings only: it cannot fail
		"message": e.message, "type": e.kind, "param": null(e.param), "code": null(e.code)}})
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.status)
	_, _ = w.Write(body) // the client may be gone; nothing to do about it
}

func invalid(param, format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, message: fmt.Sprintf(format, args...), kind: "invalid_request_error", param: param}
}

// errorFor is the API's own answer for a status, with a key in its text as the real one has: nobody may pass it on.
func errorFor(status int) *apiError {
	switch status {
	case http.StatusUnauthorized:
		return &apiError{status, "Incorrect API key provided: sk-abc***xyz.", "invalid_request_error", "", "invalid_api_key"}
	case http.StatusNotFound:
		return &apiError{status, "The model `m` does not exist or you do not have access to it.", "invalid_request_error", "", "model_not_found"}
	case http.StatusTooManyRequests:
		return &apiError{status, "Rate limit reached for requests per min.", "requests", "", "rate_limit_exceeded"}
	case http.StatusServiceUnavailable:
		return &apiError{status, "The engine is currently overloaded, please try again later.", "server_error", "", "overloaded"}
	}
	return &apiError{status, "The server had an error while processing your request.", "server_error", "", ""}
}

// readChat reads and checks a request. script is the server's own, with the request's changes on return.
func readChat(r *http.Request, script *Script) (*chat, []byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, requestMax)) // to its end: the server watches for hangups only then
	if err != nil {
		return nil, nil, err
	}
	var req struct {
		Model    string
		Stream   bool
		Messages []struct {
			Role    string
			Content json.RawMessage
		}
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
		Mock json.RawMessage
	}
	switch err := json.Unmarshal(body, &req); {
	case err != nil:
		return nil, body, invalid("", "We could not parse the JSON body of your request: %v", err)
	case req.Model == "":
		return nil, body, invalid("model", "you must provide a model parameter")
	case len(req.Messages) == 0:
		return nil, body, invalid("messages", "[] is too short - 'messages'")
	case !req.Stream:
		return nil, body, invalid("stream", "this server only streams")
	}
	c := &chat{model: req.Model, usage: req.StreamOptions.IncludeUsage}
	for i, m := range req.Messages {
		if m.Role == "" {
			return nil, body, invalid("messages", "messages[%d] has no role", i)
		}
		if m.Role == "user" {
			if c.prompt, err = textOf(m.Content); err != nil {
				return nil, body, invalid("messages", "messages[%d]: %v", i, err)
			}
		}
	}
	for _, change := range [][]byte{[]byte(r.Header.Get("X-Mock")), req.Mock} {
		if len(change) > 0 {
			if err := script.change(change); err != nil {
				return nil, body, invalid("mock", "%v", err)
			}
		}
	}
	return c, body, nil
}

// change sets the fields that the JSON object b has. Unknown ones are an error: a test would test nothing.
func (s *Script) change(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return err
	}
	return s.Check()
}

// textOf joins the text of a message's content, which is a string or an array of parts.
func textOf(content json.RawMessage) (string, error) {
	var text string
	if json.Unmarshal(content, &text) == nil {
		return text, nil
	}
	var parts []struct{ Type, Text string }
	if json.Unmarshal(content, &parts) != nil {
		return "", errors.New("content is neither a string nor an array of parts")
	}
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
	}
	return b.String(), nil
}
