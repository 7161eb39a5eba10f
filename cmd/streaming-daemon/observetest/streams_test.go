package observetest_test

import (
	"encoding/json"
	"testing"
)

// checkStreams: while streams are held, /streams shows each of them as its client left it.
func checkStreams(t *testing.T, one, two *instance) {
	t.Helper()
	type answer struct {
		ActiveStreams float64   `json:"active_streams"`
		PausedStreams float64   `json:"paused_streams"`
		PendingBytes  float64   `json:"pending_bytes"`
		LoopStreams   []float64 `json:"loop_streams"`
		Matched       int       `json:"matched"`
		Streams       []struct {
			State   string  `json:"state"`
			Paused  bool    `json:"paused"`
			Loop    int     `json:"loop"`
			Age     float64 `json:"age_seconds"`
			Events  int     `json:"events"`
			Bytes   float64 `json:"bytes"`
			Pending float64 `json:"pending_bytes"`
		} `json:"streams"`
	}
	ask := func(i *instance, path string) (a answer) {
		if err := json.Unmarshal([]byte(i.page(path)), &a); err != nil {
			t.Fatal(err)
		}
		if a.ActiveStreams != i.heldStreams || a.PausedStreams != i.heldPaused ||
			len(a.LoopStreams) != 2 || a.LoopStreams[0]+a.LoopStreams[1] != i.heldStreams {
			t.Errorf("%s: %+v", path, a)
		}
		return a
	}
	slow := ask(one, "/streams?state=paused")
	var pending float64
	for _, s := range slow.Streams {
		pending += s.Pending
		if !s.Paused || s.State != "paused" || s.Events < 1000 || s.Events >= messages || s.Bytes < 1000 || s.Pending < 16<<10 || s.Age <= 0 {
			t.Errorf("a paused stream: %+v", s)
		}
	}
	if float64(len(slow.Streams)) != one.heldPaused || pending != slow.PendingBytes {
		t.Errorf("%d paused streams with %v bytes, want %v with %v", len(slow.Streams), pending, one.heldPaused, slow.PendingBytes)
	}
	idle := ask(two, "/streams?limit=7&order=idle")
	for k, s := range idle.Streams {
		if s.Paused || s.State != "open" || s.Events != 1 || s.Pending != 0 || k > 0 && s.Age > idle.Streams[k-1].Age {
			t.Errorf("an idle stream: %+v", s)
		}
	}
	if len(idle.Streams) != 7 || float64(idle.Matched) != two.heldStreams {
		t.Errorf("%d of %d idle streams", len(idle.Streams), idle.Matched)
	}
}
