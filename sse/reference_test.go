package sse_test

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/sse"
)

// event is an sse.Event that outlives the callback.
type event struct {
	ID, Name, Data string
	HasID          bool
	Retry          time.Duration
}

// outcome is all that a reader of a stream can see.
type outcome struct {
	events      []event
	lastEventID string
	retry       time.Duration
	err         error
}

func equalEvents(a, b []event) bool { return slices.Equal(a, b) }

func (o outcome) equal(p outcome) bool {
	return equalEvents(o.events, p.events) && o.lastEventID == p.lastEventID && o.retry == p.retry && o.err == p.err
}

// feed gives p the pieces in order. Each comes in memory of its own that is
// spoiled afterwards, so that a parser which kept a reference shows.
func feed(p *sse.Parser, pieces ...[]byte) outcome {
	var o outcome
	for _, piece := range pieces {
		own := bytes.Clone(piece)
		err := p.Feed(own, func(ev sse.Event) {
			o.events = append(o.events, event{string(ev.ID), string(ev.Name), string(ev.Data), ev.HasID, ev.Retry})
		})
		for i := range own {
			own[i] = '#'
		}
		if o.err == nil {
			o.err = err
		}
	}
	o.lastEventID, o.retry = p.LastEventID(), p.Retry()
	return o
}

// reference reads a whole stream by the steps of the HTML standard 9.2.5 and
// 9.2.6 as they are written there, on strings, without a thought for cost. Its
// one addition is the bound on an event's size (eventBytesMax 0: none).
func reference(stream []byte, eventBytesMax int) outcome {
	var o outcome
	text := strings.TrimPrefix(string(stream), "\ufeff")
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	lines := strings.Split(text, "\n")
	rest := lines[len(lines)-1]
	lines = lines[:len(lines)-1]

	var data, eventType, idBuffer string
	var retry time.Duration // of this block
	var setsID, setsRetry bool
	size := 0
	tooLarge := func() bool {
		if eventBytesMax > 0 && size > eventBytesMax {
			o.err = sse.ErrEventTooLarge
		}
		return o.err != nil
	}
	for _, line := range lines {
		if line == "" {
			o.lastEventID = idBuffer
			if setsRetry {
				o.retry = retry
			}
			if data != "" {
				o.events = append(o.events, event{idBuffer, eventType, strings.TrimSuffix(data, "\n"), setsID, retry})
			}
			data, eventType, retry, setsID, setsRetry, size = "", "", 0, false, false, 0
			continue
		}
		if strings.HasPrefix(line, ":") {
			continue
		}
		if size += len(line) + 1; tooLarge() {
			return o
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			eventType = value
		case "data":
			data += value + "\n"
		case "id":
			if !strings.Contains(value, "\x00") {
				idBuffer, setsID = value, true
			}
		case "retry":
			if value != "" && strings.Trim(value, "0123456789") == "" {
				ms, err := strconv.ParseInt(value, 10, 64)
				if longest := int64(1<<63-1) / 1e6; err != nil || ms > longest {
					ms = longest
				}
				retry, setsRetry = time.Duration(ms)*time.Millisecond, true
			}
		}
	}
	if !strings.HasPrefix(rest, ":") {
		size += len(rest)
		tooLarge()
	}
	return o
}
