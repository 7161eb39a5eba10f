package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/h2"
	"streaming-daemon-go/sse/openai/upstream"
)

// FuzzServer: whatever a server sends after its greeting, each of two calls hears a head at most, then bodies, and one end
// (await fails otherwise), and nothing is left of the connection.
func FuzzServer(f *testing.F) {
	frames := func(write func(fr *http2.Framer, head []byte)) {
		var b, block bytes.Buffer
		_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		write(http2.NewFramer(&b, nil), block.Bytes())
		f.Add(b.Bytes())
	}
	frames(func(fr *http2.Framer, head []byte) {
		for _, id := range []uint32{1, 3} {
			_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head, EndHeaders: true})
			_ = fr.WriteDataPadded(id, id == 3, []byte("hello"), make([]byte, 9))
		}
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, EndStream: true})
	})
	frames(func(fr *http2.Framer, head []byte) {
		_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head[:0]})
		_ = fr.WriteContinuation(1, true, head)
		_ = fr.WriteWindowUpdate(1, 100)
		_ = fr.WriteGoAway(1, http2.ErrCodeNo, nil)
		_ = fr.WriteRSTStream(1, http2.ErrCodeInternal)
		_ = fr.WritePing(false, [8]byte{})
		_ = fr.WriteRSTStream(3, http2.ErrCodeRefusedStream)
	})
	frames(func(fr *http2.Framer, head []byte) {
		_ = fr.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		_ = fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: head, EndHeaders: true})
	})
	pool, err := loop.NewPool(1)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(pool.Close)
	f.Fuzz(func(t *testing.T, sent []byte) {
		// Nobody listens there: what is sent again fails.
		tr, err := h2.New(pool, h2.Config{Target: upstream.Target{Socket: "/nonexistent/socket", PriorH2: true}})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		ours, theirs := socketPair(t)
		if err := tr.Attach(ours); err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, pool: pool, tr: tr}
		calls := []*caller{r.start("body"), r.start("")}
		// Both requests have come when the server begins: the answers are to something.
		fr := http2.NewFramer(io.Discard, theirs)
		for ended := 0; ended < 2; {
			switch f, err := fr.ReadFrame(); f := f.(type) {
			case *http2.HeadersFrame:
				ended += b2i(f.StreamEnded())
			case *http2.DataFrame:
				ended += b2i(f.StreamEnded())
			default:
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		_, _ = theirs.Write(sent)
		_ = theirs.Close()
		for _, c := range calls {
			if a := c.wait(); a.err == nil && a.heads != 1 {
				t.Errorf("%v", a)
			}
		}
		r.settled(0)
	})
}

// socketPair is net.Pipe of two descriptors.
func socketPair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	a, b := fdtest.SocketPair(t, unix.SOCK_STREAM)
	for fd, to := range map[*loop.FD]*net.Conn{&a: &ours, &b: &theirs} {
		file := os.NewFile(uintptr(fd.Release()), "pair")
		c, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		*to = c
	}
	return ours, theirs
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// FuzzHead: a header block is judged as net/http's own framer judges it, but where we are stricter on purpose, and read
// to the same fields.
func FuzzHead(f *testing.F) {
	add := func(fields ...string) {
		var block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		f.Add(block.Bytes(), uint16(3))
	}
	add(":status", "200", "content-type", "text/event-stream", "retry-after", "7")
	add(":status", "429", "content-length", "12", "x", "")
	add("a", "b", ":status", "200")
	add(":status", "200", "A", "b")
	add(":status", "103")
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		cut := min(int(at), len(b))
		head, ok, err := h2.DecodeHead([][]byte{b[:cut], b[cut:]}, false)

		var wire bytes.Buffer
		fr := http2.NewFramer(&wire, &wire)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		fr.MaxHeaderListSize = 64 << 10
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b, EndHeaders: true})
		frame, theirs := fr.ReadFrame()
		var stream http2.StreamError
		switch {
		case len(b) > 16<<10:
		case theirs != nil && !errors.As(theirs, &stream):
			if ok && err == nil {
				t.Fatalf("accepted; the framer says %v", theirs)
			}
		case theirs != nil:
			if ok && err == nil {
				t.Fatalf("accepted; the framer says %v: %v", theirs, fr.ErrorDetail())
			}
		case !ok:
			t.Fatalf("broken; the framer reads %v", frame)
		case err == nil:
			m := frame.(*http2.MetaHeadersFrame)
			if s := m.PseudoValue("status"); s != strconv.Itoa(head.Status) {
				t.Fatalf("status %d; the framer reads %q", head.Status, s)
			}
			for _, field := range m.RegularFields() {
				if field.Name == "content-type" && head.ContentType == nil || field.Name == "retry-after" && head.RetryAfter == nil {
					t.Fatalf("%v is missed", field)
				}
			}
		}
	})
}
