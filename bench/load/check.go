package load

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"streaming-daemon-go/bench/wire"
	"streaming-daemon-go/sse"
)

// Expect is what a whole stream must be.
type Expect struct {
	Messages int  // equal events before [DONE], each wire.EventData; ignored with Prompt
	Prompt   bool // the words of the stream's own prompt instead, after a greeting that is the same for all
	Relayed  bool // an event named finish_reason stands before [DONE]
}

// rules are an Expect with what all streams of one worker share. Not safe for concurrent use.
type rules struct {
	expect   Expect
	greeting *string         // what the first whole stream said before its prompt; nil before that
	emit     func(sse.Event) // bound once, so that an event allocates nothing
	current  *check          // whose bytes emit sees
	fault    Fault           // the first one of the Feed under way
	events   int             // of the Feed under way, [DONE] not counted
}

func newRules(e Expect) *rules {
	r := &rules{expect: e}
	r.emit = r.event
	return r
}

// check holds what has been read of one stream. The zero value is the start of one.
type check struct {
	parser sse.Parser
	head   []byte // the start of a head that came in pieces
	inBody bool   // the head is behind us
	finish bool   // an event named finish_reason is behind us
	done   bool   // [DONE] is behind us
	ragged bool   // the last byte read is not the end of a block: the stream must not end here
	lastLF bool   // the last byte read is LF
	events int    // [DONE] not counted
	text   []byte // with Expect.Prompt: the content so far
}

// feed takes the next bytes of a stream and says how many events they ended, [DONE] not counted.
func (r *rules) feed(c *check, b []byte) (events int, f Fault) {
	if !c.inBody {
		if b, f = c.readHead(b); f != FaultNone || !c.inBody {
			return 0, f
		}
	}
	if len(b) == 0 {
		return 0, FaultNone
	}
	r.current, r.fault, r.events = c, FaultNone, 0
	if err := c.parser.Feed(b, r.emit); err != nil && r.fault == FaultNone {
		r.fault = FaultCorrupt
	}
	last := b[len(b)-1] == '\n'
	before := c.lastLF
	if len(b) > 1 {
		before = b[len(b)-2] == '\n'
	}
	c.lastLF, c.ragged = last, !(last && before)
	return r.events, r.fault
}

// readHead takes what belongs to the head and gives the rest.
func (c *check) readHead(b []byte) ([]byte, Fault) {
	if len(c.head) > 0 {
		c.head = append(c.head, b...)
		b = c.head
	}
	status, headLen, err := sse.ParseHead(b)
	switch {
	case errors.Is(err, sse.ErrHeadMalformed), errors.Is(err, sse.ErrHeadTooLarge):
		return nil, FaultHead
	case headLen == 0:
		if len(c.head) == 0 {
			c.head = append(c.head, b...)
		}
		return nil, FaultNone
	case status != 200:
		return nil, FaultStatus
	}
	c.inBody, c.head = true, nil
	return b[headLen:], FaultNone
}

// event is called for each event of the Feed under way.
func (r *rules) event(ev sse.Event) {
	c := r.current
	f := FaultNone
	switch {
	case r.expect.Relayed && string(ev.Name) == "finish_reason":
		if c.finish || c.done {
			f = FaultOrder
		}
		c.finish = true
	case len(ev.Name) > 0:
		f = FaultErrorEvent
	case c.done, c.finish && string(ev.Data) != wire.DoneData:
		f = FaultOrder
	case string(ev.Data) == wire.DoneData:
		c.done = true
		return
	default:
		c.events++
		r.events++
		f = r.content(c, ev.Data)
	}
	if r.fault == FaultNone {
		r.fault = f
	}
}

func (r *rules) content(c *check, data []byte) Fault {
	if !r.expect.Prompt {
		switch {
		case string(data) != wire.EventData:
			return FaultCorrupt
		case c.events > r.expect.Messages:
			return FaultExtra
		}
		return FaultNone
	}
	var content struct {
		Content *string `json:"content"`
	}
	if json.Unmarshal(data, &content) != nil || content.Content == nil {
		return FaultCorrupt
	}
	c.text = append(c.text, *content.Content...)
	return FaultNone
}

// end judges a stream that the daemon has closed.
func (r *rules) end(c *check, prompt string) Fault {
	switch {
	case !c.inBody && len(c.head) == 0:
		return FaultLost
	case !c.inBody:
		return FaultHead
	case c.ragged:
		return FaultTorn
	case !c.done, r.expect.Relayed && !c.finish:
		return FaultShort
	case r.expect.Prompt:
		return r.endPrompt(c, prompt)
	case c.events < r.expect.Messages:
		return FaultShort
	}
	return FaultNone
}

// endPrompt holds the text against the prompt: it must be the greeting that all streams share, then the prompt. Until
// a first stream was right, the greeting is what stands before the prompt's first word.
func (r *rules) endPrompt(c *check, prompt string) Fault {
	text := string(c.text)
	greeting := r.greeting
	if greeting == nil {
		first, _, _ := strings.Cut(prompt, " ")
		before, _, _ := strings.Cut(text, first)
		greeting = &before
	}
	switch want := *greeting + prompt; {
	case text == want:
		r.greeting = greeting
		return FaultNone
	case slices.Equal(sortedWords(text), sortedWords(want)):
		return FaultOrder
	case len(text) < len(want):
		return FaultShort
	}
	return FaultCorrupt
}

func sortedWords(s string) []string { return slices.Sorted(strings.FieldsSeq(s)) }
