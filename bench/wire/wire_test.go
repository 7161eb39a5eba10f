package wire_test

import (
	"testing"

	"streaming-daemon-go/bench/wire"
	"streaming-daemon-go/sse"
)

// The targets must send what the daemon sends, or a comparison compares bytes and not designs.
func TestBytesAreThoseOfTheDaemon(t *testing.T) {
	if got := string(sse.AppendHead(nil, nil)); got != wire.Head {
		t.Errorf("sse.AppendHead gives %q, wire.Head is %q", got, wire.Head)
	}
	if got := string(sse.AppendContent(nil, "The quick brown fox jumps over the lazy")); got != wire.Event {
		t.Errorf("sse.AppendContent gives %q, wire.Event is %q", got, wire.Event)
	}
	if sse.Done != wire.Done {
		t.Errorf("sse.Done is %q, wire.Done is %q", sse.Done, wire.Done)
	}
	var p sse.Parser
	events := 0
	err := p.Feed([]byte(wire.Event+wire.Done), func(ev sse.Event) {
		if want := []string{wire.EventData, wire.DoneData}[events]; string(ev.Data) != want {
			t.Errorf("event %d reads back as %q, want %q", events, ev.Data, want)
		}
		events++
	})
	if err != nil || events != 2 {
		t.Errorf("read back %d events, error %v", events, err)
	}
}
