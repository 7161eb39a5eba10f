package h2_test

import (
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/h2"
	"streaming-daemon-go/sse/openai/upstream"
)

// TestConcurrentStreams: no connection gets more calls than its server takes at a time; more connections are made, and
// past their limit calls wait their turn.
func TestConcurrentStreams(t *testing.T) {
	fdtest.NoLeaks(t)
	const calls, each, conns = 40, 3, 4
	var most atomic.Int64
	full := make(chan struct{}) // closed when every connection there may be is full: only then is anything answered
	s := startScript(t, func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: each})
		var open []uint32
		for {
			r := p.request()
			if r == nil {
				return
			}
			open = append(open, r.id)
			if n := int64(len(open)); n > most.Load() {
				most.Store(n)
			}
			if p.s.requests.Load() == each*conns {
				close(full)
			}
			if p.read++; p.read < each {
				continue
			}
			<-full
			for _, id := range open {
				p.answer(id, "hello")
			}
			open = nil
		}
	})
	cfg := s.config()
	cfg.ConnsMax = conns
	r := newRig(t, 1, cfg)
	var callers []*caller
	for range calls {
		callers = append(callers, r.start(""))
	}
	for _, c := range callers {
		mustComplete(t, c.wait(), "hello")
	}
	if c := r.tr.Counts(); most.Load() > each || c.Dials != conns || c.Retried != 0 {
		t.Errorf("%d at a time, %+v", most.Load(), c)
	}
	r.settled(conns)
}

// TestLoweredLimit: a limit that the server lowers later holds from then on.
func TestLoweredLimit(t *testing.T) {
	fdtest.NoLeaks(t)
	waits := make(chan struct{})
	one := http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}
	s := startScript(t, func(p *peer) {
		p.greet()
		first := p.request()
		_ = p.fr.WriteSettings(one)
		p.settled()
		p.ok(first.id)
		<-waits
		_ = p.fr.WritePing(false, [8]byte{2})
		if f := p.next(); f == nil || f.Header().Type != http2.FramePing {
			t.Errorf("over the limit: %v", f)
		}
		p.data(first.id, true, "hello")
		p.serveAll()
	})
	cfg := s.config()
	cfg.ConnsMax = 1
	r := newRig(t, 1, cfg)
	a := r.start("")
	await(t, a.began, "the head")
	b := r.start("")
	close(waits)
	mustComplete(t, a.wait(), "hello")
	mustComplete(t, b.wait(), "hello")
}

// TestStreamIDs: a connection that has no ids left ends in order, and another one takes over.
func TestStreamIDs(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) { p.greet(); p.serveAll() })
	r := newRig(t, 1, s.config())
	mustComplete(t, r.start("").wait(), "hello")
	r.tr.SkipStreams(2)
	for range 4 {
		mustComplete(t, r.start("").wait(), "hello")
	}
	r.settled(1)
	if n := s.accepted.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestHeadTooLargeForServer: a request that the server has said it will not take is refused here, and changes nothing of
// what the two sides know of each other.
func TestHeadTooLargeForServer(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 400})
		p.serveAll()
	})
	r := newRig(t, 1, s.config())
	large := bare()
	large.Fields = []upstream.Field{{Name: "X-Large", Value: strings.Repeat("x", 300)}}
	for range 3 {
		mustComplete(t, r.startRequest(bare()).wait(), "hello")
		mustFail(t, r.startRequest(large).wait(), upstream.ErrRefused)
	}
	if n := s.requests.Load(); n != 3 {
		t.Errorf("%d requests", n)
	}
	r.settled(1)
}

// TestSecrets: they are sent so that nobody puts them into a table; other fields are not marked.
func TestSecrets(t *testing.T) {
	fdtest.NoLeaks(t)
	got := make(chan *asked, 1)
	s := startScript(t, func(p *peer) {
		p.greet()
		r := p.request()
		got <- r
		p.answer(r.id, "hello")
		p.next()
	})
	r := newRig(t, 1, s.config())
	req := request("{}")
	for _, name := range []string{"Connection", "Host", "Transfer-Encoding", "Content-Length"} {
		req.Fields = append(req.Fields, upstream.Field{Name: name, Value: "hello"})
	}
	mustComplete(t, r.startRequest(req).wait(), "hello")
	var names []string
	for _, f := range await(t, got, "the request").fields {
		names = append(names, f.Name)
		if f.Sensitive != (f.Name == "authorization") {
			t.Errorf("%v: sensitive %v", f.Name, f.Sensitive)
		}
	}
	if s := strings.Join(names, " "); s != ":method :scheme :authority :path accept-encoding content-length content-type authorization" {
		t.Error(s)
	}
}

// TestPing: the server's pings are answered; a silent connection is pinged and lives on answers for as long as a slow
// model thinks; one that does not answer is dead, and its calls are not sent again: the server may be at work on them.
func TestPing(t *testing.T) {
	fdtest.NoLeaks(t)
	const silence = 60 * time.Millisecond
	s := startScript(t, func(p *peer) {
		p.greet()
		id := p.request().id
		if p.n == 1 {
			_ = p.fr.WritePing(false, [8]byte{7})
			f, ok := until(p, func(f *http2.PingFrame) bool { return f.IsAck() })
			if !ok || f.Data != [8]byte{7} {
				t.Errorf("answered: %v", f)
			}
			for range 4 {
				f, ok := until(p, func(f *http2.PingFrame) bool { return !f.IsAck() })
				if !ok {
					t.Error("no ping on a silent connection")
					return
				}
				_ = p.fr.WritePing(true, f.Data)
			}
			p.answer(id, "hello")
			p.request() // and from here on it is dead: nothing is answered
		}
		for p.any() != nil {
		}
	})
	cfg := s.config()
	cfg.PingIdle, cfg.PingTimeout = silence, 2*time.Second
	if !raceEnabled {
		cfg.PingTimeout = 300 * time.Millisecond
	}
	r := newRig(t, 1, cfg)
	mustComplete(t, r.start("").wait(), "hello")
	mustFail(t, r.start("").wait(), upstream.ErrBroken)
	if n := s.requests.Load(); n != 2 {
		t.Errorf("%d requests", n)
	}
	r.settled(0)
}

// TestUnreadAnswers: a server that asks and never reads is not answered without bound.
func TestUnreadAnswers(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet()
		p.request()
		for {
			if p.fr.WritePing(false, [8]byte{}) != nil { // until the far end has closed
				return
			}
		}
	})
	r := newRig(t, 1, s.config())
	mustFail(t, r.start("").wait(), upstream.ErrProtocol)
	r.settled(0)
}

// TestIdle: a connection without a call is closed after its time, with a goodbye.
func TestIdle(t *testing.T) {
	fdtest.NoLeaks(t)
	bye := make(chan bool, 1)
	s := startScript(t, func(p *peer) {
		p.greet()
		p.answer(p.request().id, "hello")
		_, ok := p.next().(*http2.GoAwayFrame)
		bye <- ok && p.next() == nil
	})
	cfg := s.config()
	cfg.IdleTimeout = 50 * time.Millisecond
	r := newRig(t, 1, cfg)
	mustComplete(t, r.start("").wait(), "hello")
	if !await(t, bye, "the goodbye") {
		t.Error("no GOAWAY and end")
	}
	r.settled(0)
}

// TestClose: calls under way and those that wait fail; what is started after it does too.
func TestClose(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
		p.ok(p.request().id)
		p.next()
	})
	cfg := s.config()
	cfg.ConnsMax = 1
	r := newRig(t, 1, cfg)
	first, second := r.start(""), r.start("")
	await(t, first.began, "the head")
	r.tr.Close()
	mustFail(t, first.wait(), upstream.ErrClosed)
	mustFail(t, second.wait(), upstream.ErrClosed)
	mustFail(t, r.start("").wait(), upstream.ErrClosed)
	r.tr.Close()
}

// TestCancelEverywhere: a call that waits for a connection, for a place on one, or for its body's window is cancelled
// without a trace.
func TestCancelEverywhere(t *testing.T) {
	fdtest.NoLeaks(t)
	accept, used := make(chan struct{}), make(chan struct{})
	s := startScript(t, func(p *peer) {
		<-accept
		p.greet(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
		p.mustData(3, false)
		close(used)
		p.mustReset(1, http2.ErrCodeCancel)
		p.serveAll()
	})
	cfg := s.config()
	cfg.ConnsMax = 1
	r := newRig(t, 1, cfg)
	dialing := r.start("")
	r.on(0, func() { dialing.call.Cancel() })
	parked := r.start("parked")
	waiting := r.start("waiting")
	last := r.start("")
	r.on(0, func() { waiting.call.Cancel() })
	close(accept)
	await(t, used, "the body's window to be used up")
	r.on(0, func() { parked.call.Cancel() })
	mustComplete(t, last.wait(), "hello")
	for _, c := range []*caller{dialing, parked, waiting} {
		if a := c.now(); a.heads+a.ends != 0 {
			t.Errorf("a cancelled call heard: %v", a)
		}
	}
	r.settled(1)
}

// TestPanic: it costs its own call. Those that are told in the same turn, before and after it, hear all that is theirs.
func TestPanic(t *testing.T) {
	fdtest.NoLeaks(t)
	s := startScript(t, func(p *peer) {
		p.greet()
		for range 3 {
			p.request()
		}
		var out strings.Builder
		fr := http2.NewFramer(&out, nil)
		head := p.encode(":status", "200")
		for _, id := range []uint32{1, 3, 5} {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true})
		}
		for _, id := range []uint32{1, 3, 5, 1, 3, 5} {
			_ = fr.WriteData(id, false, []byte("hello"))
		}
		_, _ = p.Write([]byte(out.String()))
		p.mustReset(3, http2.ErrCodeCancel)
		p.data(1, true, "")
		p.data(5, true, "")
		p.next()
	})
	r := newRig(t, 1, s.config())
	one := r.start("")
	two := r.start("", onBody(func(*caller, []byte) { panic("of the test") }))
	three := r.start("")
	mustComplete(t, one.wait(), "hellohello")
	mustComplete(t, three.wait(), "hellohello")
	if a := two.wait(); a.pieces != 1 {
		t.Error(a)
	} else {
		mustFail(t, a, upstream.ErrPanic)
	}
	r.settled(1)
}

// TestNoConnection: each way to fail before the first frame has its error, for every call that waits.
func TestNoConnection(t *testing.T) {
	silent := func(p *peer) { p.any() }
	tests := []struct {
		name   string
		run    func(*peer)
		change func(*h2.Config)
		err    error
	}{
		{"nobody listens", silent, func(c *h2.Config) { c.Target.Port = 1 }, upstream.ErrConnect},
		{"no socket", silent, func(c *h2.Config) { c.Target.Socket = "/nonexistent/socket" }, upstream.ErrConnect},
		{"silence", silent, func(c *h2.Config) { c.ConnectTimeout = 50 * time.Millisecond }, upstream.ErrConnectTimeout},
		{"silence to TLS", silent, func(c *h2.Config) {
			c.ConnectTimeout, c.Target.TLS, c.Target.PriorH2 = 50*time.Millisecond, true, false
		}, upstream.ErrConnectTimeout},
		{"no TLS", func(p *peer) { _, _ = p.Write([]byte("HTTP/1.1 400 hello\r\n\r\n")) }, func(c *h2.Config) {
			c.Target.TLS, c.Target.PriorH2 = true, false
		}, upstream.ErrTLS},
		{"HTTP/1.1", func(p *peer) { _, _ = p.Write([]byte("HTTP/1.1 400 hello\r\n\r\n")); p.any() }, nil, upstream.ErrProtocol},
		{"another frame first", func(p *peer) { _ = p.fr.WritePing(false, [8]byte{}); p.any() }, nil, upstream.ErrProtocol},
		{"the end", func(*peer) {}, nil, upstream.ErrConnect},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, tt.run)
			cfg := s.config()
			if tt.change != nil {
				tt.change(&cfg)
			}
			r := newRig(t, 2, cfg)
			one, two := r.start(""), r.start("", onLoop(1))
			mustFail(t, one.wait(), tt.err)
			mustFail(t, two.wait(), tt.err)
			r.settled(0)
		})
	}
}

// TestUnixSocket: prior knowledge over a Unix socket.
func TestUnixSocket(t *testing.T) {
	fdtest.NoLeaks(t)
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, ln: ln, run: func(p *peer) { p.greet(); p.serveAll() }, open: make(map[net.Conn]bool)}
	t.Cleanup(s.close)
	s.running.Go(func() {
		if c, err := ln.Accept(); err == nil {
			s.serve(c)
		}
	})
	r := newRig(t, 1, h2.Config{Target: upstream.Target{Socket: path, PriorH2: true}})
	mustComplete(t, r.start("").wait(), "hello")
}

// TestImports: the wire is its own subject.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{range .Imports}}{{.}} {{end}}`, ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for path := range strings.FieldsSeq(string(out)) {
		switch path {
		case "streaming-daemon-go/loop", "streaming-daemon-go/sse/openai/dial", "streaming-daemon-go/sse/openai/upstream":
		default:
			if strings.HasPrefix(path, "streaming-daemon-go/") {
				t.Errorf("h2 imports %s", path)
			}
		}
	}
	if !strings.Contains(string(out), "streaming-daemon-go/loop") {
		t.Errorf("go list knows no imports of h2: %q", out)
	}
}
