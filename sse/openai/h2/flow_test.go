package h2_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/upstream"
)

// mustData waits for a piece of a request's body.
func (p *peer) mustData(n int, end bool) {
	f, ok := until(p, func(*http2.DataFrame) bool { return true })
	if !ok || len(f.Data()) != n || f.StreamEnded() != end {
		p.t.Errorf("want %d bytes, end %v; got %v", n, end, f)
	}
}

// settled waits until the far end has taken what was said to it so far.
func (p *peer) settled() {
	_ = p.fr.WritePing(false, [8]byte{1})
	if _, ok := until(p, func(f *http2.PingFrame) bool { return f.IsAck() }); !ok {
		p.t.Error("no answer to a ping")
	}
}

// TestRequestWindows: a request's body keeps within the windows that the server sets and changes, below zero too.
func TestRequestWindows(t *testing.T) {
	fdtest.NoLeaks(t)
	window := func(n uint32) http2.Setting { return http2.Setting{ID: http2.SettingInitialWindowSize, Val: n} }
	s := startScript(t, func(p *peer) {
		p.greet(window(10))
		p.mustData(10, false)
		_ = p.fr.WriteSettings(window(4)) // 6 below
		_ = p.fr.WriteWindowUpdate(1, 8)
		p.mustData(2, false)
		p.settled() // no more comes by itself
		_ = p.fr.WriteSettings(window(24))
		p.mustData(18, true)
		p.answer(1, "hello")
		p.serveAll()
	})
	r := newRig(t, 1, s.config())
	mustComplete(t, r.start(strings.Repeat("x", 30)).wait(), "hello")
	mustComplete(t, r.start("").wait(), "hello")
}

// TestRequestConnWindow: all bodies together keep within the connection's window, take turns, and wait without holding
// up requests without one. A frame is never larger than everyone takes, whatever the server allows.
func TestRequestConnWindow(t *testing.T) {
	fdtest.NoLeaks(t)
	const size = 40 << 10
	got := make(chan map[uint32]int, 1)
	s := startScript(t, func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20})
		bytes := map[uint32]int{}
		total := 0
		take := func(f *http2.DataFrame) {
			if bytes[f.StreamID] += len(f.Data()); len(f.Data()) > 16<<10 {
				t.Errorf("a frame of %d bytes", len(f.Data()))
			}
			total += len(f.Data())
		}
		for total < 65535 {
			switch f := p.next().(type) {
			case nil:
				return
			case *http2.DataFrame:
				take(f)
			}
		}
		p.settled()
		got <- map[uint32]int{1: bytes[1], 3: bytes[3]}
		if _, ok := until(p, func(f *http2.MetaHeadersFrame) bool { return f.StreamEnded() }); !ok {
			t.Error("a request without a body is held up")
		}
		p.answer(5, "hello")
		_ = p.fr.WriteWindowUpdate(0, 1<<20)
		for total < 2*size {
			f, ok := p.next().(*http2.DataFrame)
			if !ok {
				return
			}
			take(f)
		}
		p.answer(3, "hello")
		p.answer(1, "hello")
		p.next()
	})
	r := newRig(t, 1, s.config())
	calls := []*caller{r.start(strings.Repeat("x", size)), r.start(strings.Repeat("y", size))}
	b := await(t, got, "a window's worth")
	if b[1]+b[3] != 65535 || b[1] == 0 || b[3] == 0 {
		t.Errorf("%v", b)
	}
	mustComplete(t, r.start("").wait(), "hello")
	for _, c := range calls {
		mustComplete(t, c.wait(), "hello")
	}
}

// TestEarlyAnswer: a server may answer before it has read the request. The rest is not sent, and the stream is reset.
func TestEarlyAnswer(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
		p.mustData(5, false)
		p.head(1, false, ":status", "413")
		p.data(1, true, "too large")
		p.mustReset(1, http2.ErrCodeNo)
		_ = p.fr.WriteWindowUpdate(1, 100) // late, and of no use
		p.serveAll()
	})
	r := newRig(t, 1, s.config())
	a := r.start("more than five bytes").wait()
	if a.status != 413 || string(a.body) != "too large" || a.err != nil {
		t.Error(a)
	}
	mustComplete(t, r.start("").wait(), "hello")
	r.settled(1)
}

// TestResponseWindow: a server that sends more than a paused call's window loses that stream and no other.
func TestResponseWindow(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet()
		id := p.request().id
		p.ok(id)
		for range 3 {
			p.data(id, false, strings.Repeat("x", 16<<10)) // the window is 32 KiB
		}
		p.mustReset(id, http2.ErrCodeFlowControl)
		p.serveAll()
	})
	r := newRig(t, 1, s.config())
	c := r.start("", onHead(func(c *caller) { c.call.Pause() }))
	a := c.wait()
	mustFail(t, a, upstream.ErrProtocol)
	if len(a.body) != 32<<10 {
		t.Errorf("%d bytes", len(a.body))
	}
	mustComplete(t, r.start("").wait(), "hello")
	r.settled(1)
}

// TestPadding: it counts for the windows, and both are given back.
func TestPadding(t *testing.T) {
	fdtest.NoLeaks(t)
	const frames = 12000 // 3 MB of padding: three times the connection's window
	s := startScript(t, func(p *peer) {
		p.greet()
		id := p.request().id
		p.ok(id)
		pad := make([]byte, 255)
		stream, conn := 32<<10, 1<<20
		for i := range frames {
			for stream < 260 || conn < 260 {
				f, ok := until(p, func(*http2.WindowUpdateFrame) bool { return true })
				if !ok {
					t.Error("no window is given back")
					return
				}
				if f.StreamID == 0 {
					conn += int(f.Increment)
				} else {
					stream += int(f.Increment)
				}
			}
			text := ""
			if i%1000 == 0 {
				text = "x"
			}
			_ = p.fr.WriteDataPadded(id, false, []byte(text), pad)
			stream, conn = stream-256-len(text), conn-256-len(text)
		}
		p.data(id, true, "")
		p.next()
	})
	r := newRig(t, 1, s.config())
	mustComplete(t, r.start("").wait(), strings.Repeat("x", frames/1000))
}

// TestBatches: frames that come together are told together.
func TestBatches(t *testing.T) {
	fdtest.NoLeaks(t)
	const frames = 200
	s := startScript(t, func(p *peer) {
		p.greet()
		id := p.request().id
		p.ok(id)
		var out strings.Builder
		fr := http2.NewFramer(&out, nil)
		for i := range frames {
			_ = fr.WriteData(id, i == frames-1, fmt.Appendf(nil, "%03d\n", i))
		}
		_, _ = p.Write([]byte(out.String()))
		p.next()
	})
	r := newRig(t, 1, s.config())
	a := r.start("").wait()
	want := ""
	for i := range frames {
		want += fmt.Sprintf("%03d\n", i)
	}
	mustComplete(t, a, want)
	if a.pieces > frames/10 {
		t.Errorf("%d callbacks for %d frames of one write", a.pieces, frames)
	}
}
