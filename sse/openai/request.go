package openai

import (
	"encoding/json"
	"net/http"
	"strconv"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/stream"
)

// Limits of what a payload may ask for. They are wide: the API has its own; these keep nonsense from being paid for.
const (
	modelMax     = 256        // bytes
	messagesMax  = 4096       // of one history
	stopMax      = 16         // strings; the API takes 4, others more
	extraMax     = 64         // members
	maxTokensMax = 10_000_000 // tokens
)

// asked is what a payload asks for: JSON values as they stand in it, nil where there is none, or a null.
type asked struct {
	messages, system, maxTokens, temperature, topP, stop, extra, profile []byte
}

// readPayload finds the fields in one walk; of a name that is there twice the last counts.
func readPayload(p *fdrecv.Payload) (asked, error) {
	var a asked
	raw := p.Raw()
	if raw == nil {
		return a, nil
	}
	s := scanner{b: raw}
	var key []byte
	for s.open('{'); s.member(&key); {
		name := string(key)
		value := notNull(s.value())
		if field := a.field(name); field != nil {
			*field = value
		}
	}
	if !s.end() {
		return a, bad("payload", "is nested too deep") // fdrecv has checked the rest
	}
	return a, nil
}

func (a *asked) field(name string) *[]byte {
	switch name {
	case "messages":
		return &a.messages
	case "system":
		return &a.system
	case "max_tokens":
		return &a.maxTokens
	case "temperature":
		return &a.temperature
	case "top_p":
		return &a.topP
	case "stop":
		return &a.stop
	case "extra":
		return &a.extra
	case "profile":
		return &a.profile
	}
	return nil
}

// bad is the refusal of a payload: a 400 that names the field.
func bad(field, what string) *stream.Refusal {
	return &stream.Refusal{Status: http.StatusBadRequest, Message: field + " " + what}
}

// member is one member of the request's body.
type member struct {
	name  string
	value []byte
}

// members are the settings in a request's body, in order, each name once.
type members []member

// set puts a setting in, in place of one with the same name.
func (m *members) set(name string, value []byte) {
	for i := range *m {
		if (*m)[i].name == name {
			(*m)[i].value = value
			return
		}
	}
	*m = append(*m, member{name, value})
}

// body makes the request's body for a payload: what the profile sets, under what the payload sets, under its extra.
// Messages go through untouched, behind the system message if there is one; without them the prompt is the only
// message. The error is a *stream.Refusal.
func (p *profile) body(payload *fdrecv.Payload, a *asked) ([]byte, error) {
	model := payload.Model
	if model == "" {
		model = p.model
	}
	switch {
	case model == "":
		return nil, bad("model", "is needed")
	case len(model) > modelMax:
		return nil, bad("model", "is longer than "+strconv.Itoa(modelMax)+" bytes")
	}
	system, err := readSystem(a.system, p.system)
	if err != nil {
		return nil, err
	}
	settings := append(make(members, 0, len(p.settings)+8), p.settings...)
	if err := settings.add(a); err != nil {
		return nil, err
	}
	size := len(a.messages) + len(payload.Prompt) + len(system) + len(a.extra)
	b := make([]byte, 0, size+size/8+512) // one allocation, but for texts full of quotes
	b = append(b, `{"model":`...)
	b = sse.AppendJSONString(b, model)
	b = append(b, `,"stream":true,"messages":[`...)
	if b, err = appendMessages(b, system, payload.Prompt, a.messages); err != nil {
		return nil, err
	}
	b = append(b, ']')
	for _, s := range settings {
		b = append(b, ',')
		b = sse.AppendJSONString(b, s.name)
		b = append(b, ':')
		b = append(b, s.value...)
	}
	return append(b, '}'), nil
}

func readSystem(value []byte, byDefault string) (string, error) {
	if value == nil {
		return byDefault, nil
	}
	var system string
	if value[0] != '"' || json.Unmarshal(value, &system) != nil {
		return "", bad("system", "is not a string")
	}
	return system, nil
}

// appendMessages adds the elements of the messages array.
func appendMessages(b []byte, system, prompt string, messages []byte) ([]byte, error) {
	if system != "" {
		b = appendMessage(b, "system", system)
	}
	if messages == nil {
		if prompt == "" {
			return nil, bad("prompt or messages", "is needed")
		}
		if system != "" {
			b = append(b, ',')
		}
		return appendMessage(b, "user", prompt), nil
	}
	if err := checkMessages(messages); err != nil {
		return nil, err
	}
	if system != "" {
		b = append(b, ',')
	}
	return append(b, messages[1:len(messages)-1]...), nil
}

func appendMessage(b []byte, role, content string) []byte {
	b = append(b, `{"role":"`...)
	b = append(b, role...)
	b = append(b, `","content":`...)
	b = sse.AppendJSONString(b, content)
	return append(b, '}')
}

// checkMessages wants an array of objects that have a role. What is in them is between the application and the API.
func checkMessages(messages []byte) error {
	if messages[0] != '[' {
		return bad("messages", "is not an array")
	}
	s := scanner{b: messages}
	count := 0
	for s.open('['); s.element(); count++ {
		if s.peek() != '{' {
			return bad("messages["+strconv.Itoa(count)+"]", "is not an object")
		}
		hasRole := false
		var key []byte
		for s.open('{'); s.member(&key); {
			isRole := string(key) == "role"
			if value := s.value(); isRole {
				hasRole = len(value) > 2 && value[0] == '"'
			}
		}
		if !hasRole {
			return bad("messages["+strconv.Itoa(count)+"].role", "is not a string with a role")
		}
	}
	switch {
	case count == 0:
		return bad("messages", "is empty")
	case count > messagesMax:
		return bad("messages", "has more than "+strconv.Itoa(messagesMax)+" elements")
	}
	return nil
}

// add puts in what the payload sets, its extra last. The names are those of the payload's fields.
func (m *members) add(a *asked) error {
	for _, f := range []struct {
		name  string
		value []byte
		check func([]byte) string
	}{
		{"max_tokens", a.maxTokens, checkMaxTokens},
		{"temperature", a.temperature, checkTemperature},
		{"top_p", a.topP, checkTopP},
		{"stop", a.stop, checkStop},
	} {
		if f.value == nil {
			continue
		}
		if what := f.check(f.value); what != "" {
			return bad(f.name, what)
		}
		m.set(f.name, f.value)
	}
	if a.extra == nil {
		return nil
	}
	return m.merge(a.extra)
}

// merge puts in the members of an object. What has a field of its own in the payload, or is ours, is refused.
func (m *members) merge(extra []byte) error {
	if string(extra) == "[]" { // PHP's empty array, where other languages write an empty object
		return nil
	}
	if extra[0] != '{' {
		return bad("extra", "is not an object")
	}
	s := scanner{b: extra}
	count := 0
	var key []byte
	for s.open('{'); s.member(&key); {
		name := string(key)
		switch name {
		case "stream", "messages", "model":
			return bad("extra."+name, "cannot be set here")
		}
		m.set(name, s.value())
		if count++; count > extraMax {
			return bad("extra", "has more than "+strconv.Itoa(extraMax)+" members")
		}
	}
	return nil
}

// The checks give what is wrong with a value, "" for nothing.

func checkMaxTokens(v []byte) string {
	if n, err := strconv.ParseInt(string(v), 10, 64); err != nil || n < 1 || n > maxTokensMax {
		return "is not a whole number from 1 to " + strconv.Itoa(maxTokensMax)
	}
	return ""
}

func checkTemperature(v []byte) string {
	if !inRange(v, 2) {
		return "is not a number from 0 to 2"
	}
	return ""
}

func checkTopP(v []byte) string {
	if !inRange(v, 1) {
		return "is not a number from 0 to 1"
	}
	return ""
}

func inRange(v []byte, high float64) bool {
	f, err := strconv.ParseFloat(string(v), 64) // a JSON text that it takes is a number
	return err == nil && f >= 0 && f <= high
}

func checkStop(v []byte) string {
	const what = "is neither a string nor an array of strings"
	if v[0] == '"' {
		return ""
	}
	if v[0] != '[' {
		return what
	}
	s := scanner{b: v}
	count := 0
	for s.open('['); s.element(); count++ {
		if e := s.value(); e == nil || e[0] != '"' {
			return what
		}
	}
	if count > stopMax {
		return "has more than " + strconv.Itoa(stopMax) + " strings"
	}
	return ""
}
