package h2_test

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/sse/openai/upstream"
)

// TestMalformedResponses: each costs its own stream, which is reset; the connection serves the next call.
func TestMalformedResponses(t *testing.T) {
	big := strings.Repeat("x", 60<<10)
	tests := []struct {
		name string
		code http2.ErrCode // 0: the stream is over already
		send func(p *peer, id uint32)
	}{
		{"no status", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, "content-type", "x") }},
		{"two statuses", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", ":status", "200") }},
		{"status after a field", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, "a", "b", ":status", "200") }},
		{"status of letters", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "2xx") }},
		{"status 999", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "999") }},
		{"status 101", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "101") }},
		{"a request's field", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", ":path", "/") }},
		{"upper case", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", "Content-Type", "x") }},
		{"control character", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", "a", "b\r\nc") }},
		{"connection", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", "connection", "close") }},
		{"content coding", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", "content-encoding", "gzip") }},
		{"length of letters", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "200", "content-length", "x") }},
		{"two lengths", http2.ErrCodeProtocol, func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "1", "content-length", "2")
		}},
		{"list too large", http2.ErrCodeProtocol, func(p *peer, id uint32) { // in frames that are all in order
			b := p.encode(":status", "200", "a", big, "b", big)
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:16<<10]})
			for b = b[16<<10:]; len(b) > 0; {
				n := min(len(b), 16<<10)
				_ = p.fr.WriteContinuation(id, n == len(b), b[:n])
				b = b[n:]
			}
		}},
		{"interim at the end", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, true, ":status", "103") }},
		{"body before the head", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.data(id, false, "hello") }},
		{"second head", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.ok(id); p.ok(id) }},
		{"status in trailers", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.ok(id); p.head(id, true, ":status", "200") }},
		{"longer than declared", http2.ErrCodeProtocol, func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "4")
			p.data(id, false, "hello")
		}},
		{"shorter than declared", http2.ErrCodeProtocol, func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "6")
			p.data(id, true, "hello")
		}},
		{"shorter, with trailers", http2.ErrCodeProtocol, func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-length", "6")
			p.data(id, false, "hello")
			p.head(id, true, "a", "b")
		}},
		{"nothing of what is declared", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, true, ":status", "200", "content-length", "6") }},
		{"a body where none can be", http2.ErrCodeProtocol, func(p *peer, id uint32) { p.head(id, false, ":status", "204"); p.data(id, true, "hello") }},
		{"window too large", http2.ErrCodeFlowControl, func(p *peer, id uint32) { _ = p.fr.WriteWindowUpdate(id, 1<<31-1) }},
		{"window update of nothing", http2.ErrCodeProtocol, func(p *peer, id uint32) {
			_ = p.fr.WriteRawFrame(http2.FrameWindowUpdate, 0, id, []byte{0, 0, 0, 0})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, func(p *peer) {
				p.greet()
				id := p.request().id
				tt.send(p, id)
				p.mustReset(id, tt.code)
				p.serveAll()
			})
			r := newRig(t, 1, s.config())
			mustFail(t, r.start("").wait(), upstream.ErrProtocol)
			mustComplete(t, r.start("").wait(), "hello")
			if n := s.accepted.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
			r.settled(1)
		})
	}
}

// TestResponses: what is unusual and in order.
func TestResponses(t *testing.T) {
	tests := []struct {
		name, body string
		send       func(p *peer, id uint32)
	}{
		{"interim heads", "hello", func(p *peer, id uint32) {
			p.head(id, false, ":status", "100")
			p.head(id, false, ":status", "103", "link", "x")
			p.answer(id, "hello")
		}},
		{"trailers", "hello", func(p *peer, id uint32) { p.ok(id); p.data(id, false, "hello"); p.head(id, true, "a", "b") }},
		{"no body", "", func(p *peer, id uint32) { p.head(id, true, ":status", "200", "content-encoding", "gzip") }},
		{"empty frames", "hello", func(p *peer, id uint32) {
			p.ok(id)
			p.data(id, false, "")
			p.data(id, false, "hello")
			p.data(id, false, "")
			p.data(id, true, "")
		}},
		{"identity", "hello", func(p *peer, id uint32) {
			p.head(id, false, ":status", "200", "content-encoding", "identity", "content-length", "5")
			p.data(id, true, "hello")
		}},
		{"head in pieces", "hello", func(p *peer, id uint32) {
			b := p.encode(":status", "200", "content-type", " text/event-stream ", "a", strings.Repeat("b", 50))
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b[:0]})
			for i := 0; i < len(b); i += 10 {
				_ = p.fr.WriteContinuation(id, i+10 >= len(b), b[i:min(i+10, len(b))])
			}
			p.data(id, true, "hello")
		}},
		{"what nobody knows", "hello", func(p *peer, id uint32) {
			_ = p.fr.WriteRawFrame(0xfa, 0xff, id, []byte("hello"))
			_ = p.fr.WriteRawFrame(http2.FramePriority, 0, 77, make([]byte, 5))
			_ = p.fr.WriteSettings(http2.Setting{ID: 0xfafa, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
			p.answer(id, "hello")
			_ = p.fr.WriteRSTStream(id, http2.ErrCodeNo) // it is over: late, and nobody's concern
			_ = p.fr.WriteWindowUpdate(id, 5)
			p.data(id, false, "more")
			p.head(id, true, ":status", "200")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, func(p *peer) {
				p.greet()
				for r := p.request(); r != nil; r = p.request() {
					tt.send(p, r.id)
				}
			})
			r := newRig(t, 1, s.config())
			for range 2 { // the second one finds the connection, its table and its windows as they must be
				mustComplete(t, r.start("").wait(), tt.body)
			}
			r.settled(1)
			if n := s.accepted.Load(); n != 1 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

// TestBrokenConnections: what concerns no single stream ends the connection with a code and every call on it; the next
// call gets a new one.
func TestBrokenConnections(t *testing.T) {
	tests := []struct {
		name string
		code http2.ErrCode
		send func(p *peer)
	}{
		{"data of no stream", http2.ErrCodeProtocol, func(p *peer) { p.data(99, false, "hello") }},
		{"data of a server's stream", http2.ErrCodeProtocol, func(p *peer) { p.data(2, false, "hello") }},
		{"head of no stream", http2.ErrCodeProtocol, func(p *peer) { p.ok(99) }},
		{"reset of no stream", http2.ErrCodeProtocol, func(p *peer) { _ = p.fr.WriteRSTStream(99, http2.ErrCodeNo) }},
		{"window of no stream", http2.ErrCodeProtocol, func(p *peer) { _ = p.fr.WriteWindowUpdate(99, 1) }},
		{"push", http2.ErrCodeProtocol, func(p *peer) {
			_ = p.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: p.encode(":path", "/"), EndHeaders: true})
		}},
		{"window too large", http2.ErrCodeFlowControl, func(p *peer) { _ = p.fr.WriteWindowUpdate(0, 1<<31-1) }},
		{"all windows too large", http2.ErrCodeFlowControl, func(p *peer) {
			_ = p.fr.WriteWindowUpdate(1, 1<<30)
			_ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}},
		{"a setting out of range", http2.ErrCodeProtocol, func(p *peer) {
			_ = p.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})
		}},
		{"compression", http2.ErrCodeCompression, func(p *peer) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, EndHeaders: true})
		}},
		{"half a block", http2.ErrCodeCompression, func(p *peer) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x00, 0x7f}, EndHeaders: true})
		}},
		{"frame too large", http2.ErrCodeFrameSize, func(p *peer) { p.data(1, false, strings.Repeat("x", 16<<10+1)) }},
		{"head with bad padding", http2.ErrCodeProtocol, func(p *peer) {
			_ = p.fr.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, []byte{200, 0x88})
		}},
		{"a frame within a block", http2.ErrCodeProtocol, func(p *peer) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":status", "200")})
			p.data(1, false, "hello")
		}},
		{"endless block of empty frames", http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":status", "200")})
			for range 30 {
				_ = p.fr.WriteContinuation(1, false, nil)
			}
		}},
		{"endless block of full frames", http2.ErrCodeEnhanceYourCalm, func(p *peer) {
			_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(":status", "200")})
			field := append([]byte{0x00, 1, 'a', 0x7f, 0xa1, 0x7f}, make([]byte, 16<<10-6)...) // one literal: 127 + 0x21 + 127<<7 bytes
			for range 12 {
				_ = p.fr.WriteContinuation(1, false, field)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			s := startScript(t, func(p *peer) {
				p.greet()
				if p.n > 1 {
					p.serveAll()
					return
				}
				p.request()
				p.request()
				tt.send(p)
				p.mustGoAway(tt.code)
				_, _ = io.Copy(io.Discard, p) // what it had still to send must not make a reset of the end
			})
			r := newRig(t, 1, s.config())
			one, two := r.start(""), r.start("")
			mustFail(t, one.wait(), upstream.ErrProtocol)
			mustFail(t, two.wait(), upstream.ErrProtocol)
			mustComplete(t, r.start("").wait(), "hello")
			r.settled(1)
		})
	}
}
