package main

import (
	"net"
	"strings"
	"time"

	"streaming-daemon-go/bench/wire"
	"streaming-daemon-go/sse"
)

const (
	writeTimeout = 30 * time.Second
	promptRunes  = 100 // as the daemon's demo backend
)

// stream writes all events of one client, the head with the first and [DONE] with the last, and returns when they are
// written or the client is gone.
func stream(client net.Conn, p payload, opts options) {
	next, count := equalEvents, opts.messages
	if count == 0 {
		words := strings.SplitAfter("Hello! You said: "+cut(p.Prompt, promptRunes), " ")
		next, count = func(i int) []byte { return sse.AppendContent(nil, words[i]) }, len(words)
	}
	var timer *time.Timer
	due := time.Now()
	for i := range count {
		b := next(i)
		if i == 0 {
			b = append([]byte(wire.Head), b...)
		}
		if i == count-1 {
			b = append(b[:len(b):len(b)], wire.Done...)
		}
		if i > 0 && opts.delay > 0 {
			due = due.Add(opts.delay)
			if wait := time.Until(due); timer == nil {
				timer = time.NewTimer(wait)
			} else {
				timer.Reset(wait)
			}
			<-timer.C
		}
		if client.SetWriteDeadline(time.Now().Add(writeTimeout)) != nil {
			return
		}
		if _, err := client.Write(b); err != nil {
			return
		}
	}
}

// event is shared by all streams: nobody writes to it.
var event = []byte(wire.Event)

func equalEvents(int) []byte { return event }

// cut gives the first n runes of s.
func cut(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}
