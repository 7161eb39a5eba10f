package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/upgrade"
	"streaming-daemon-go/fdrecv/fdtest"
)

const patience = 10 * time.Second

// far is the predecessor's end of a socket pair whose other end this process inherits, in the test's hands.
type far struct {
	t    *testing.T
	conn *net.UnixConn
}

// inherited makes this process a successor of the test.
func inherited(t *testing.T) *far {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(pair[1]), "far")
	conn, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("STREAMING_DAEMON_UPGRADE_FD", strconv.Itoa(pair[0]))
	t.Setenv("LISTEN_FDS", "1") // of the predecessor
	t.Setenv("WATCHDOG_PID", "1")
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return &far{t, conn.(*net.UnixConn)}
}

// say sends a packet as it is, with descriptors.
func (f *far) say(packet string, fds ...int) {
	f.t.Helper()
	if _, _, err := f.conn.WriteMsgUnix([]byte(packet), unix.UnixRights(fds...), nil); err != nil {
		f.t.Fatal(err)
	}
}

// hears gives the next packet as it came.
func (f *far) hears() string {
	f.t.Helper()
	b := make([]byte, 4096)
	n, err := f.conn.Read(b)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b[:n])
}

// aSocket is a descriptor to hand over.
func aSocket(t *testing.T) int {
	t.Helper()
	a, b := fdtest.SocketPair(t, unix.SOCK_STREAM)
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a.Int()
}

// The whole exchange, with messages that this version does not know in between.
func TestTakeOver(t *testing.T) {
	fdtest.NoLeaks(t)
	f := inherited(t)
	fd := aSocket(t)
	f.say(`{"kind":"hello","version":1,"sockets":3,"of another version":true}`)
	f.say(`{"kind":"socket","socket":{"name":"stream","address":"/a","extra":{"x":1}}}`, fd)
	f.say(`{"kind":"a word of another version"}`)
	f.say(`{"kind":"socket","socket":{"name":"metrics","address":"/a"}}`, fd)
	f.say(`{"kind":"socket","socket":{"name":"stream","address":"/b"}}`, fd)
	p, err := upgrade.Inherit()
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	for _, name := range []string{"STREAMING_DAEMON_UPGRADE_FD", "LISTEN_FDS", "WATCHDOG_PID"} {
		if value, set := os.LookupEnv(name); set {
			t.Errorf("%s is still %q: a successor of this one would believe it", name, value)
		}
	}
	if s, ok := p.Take("stream", "/none"); ok {
		t.Errorf("%+v for an address that nobody sent", s)
	}
	s, ok := p.Take("stream", "/a")
	if !ok || string(s.Extra) != `{"x":1}` || !s.FD.Valid() {
		t.Errorf("%+v, %t", s, ok)
	}
	_ = s.FD.Close()
	if _, again := p.Take("stream", "/a"); again {
		t.Error("one socket was given twice")
	}
	rest := p.Rest()
	for i := range rest {
		_ = rest[i].FD.Close()
	}
	if len(rest) != 2 || len(p.Rest()) != 0 {
		t.Errorf("%d are left, want 2", len(rest))
	}

	ready := make(chan error, 1)
	go func() { ready <- p.Ready(context.Background()) }()
	if said := f.hears(); said != `{"kind":"ready"}` {
		t.Errorf("it said %s", said)
	}
	f.say(`{"kind":"a word of another version"}`)
	select {
	case err := <-ready:
		t.Fatalf("ready returned before it was told to accept: %v", err)
	default:
	}
	f.say(`{"kind":"accept"}`)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	counts := make(chan string, 10)
	p.Accepting(func(b json.RawMessage) { counts <- string(b) })
	if said := f.hears(); said != `{"kind":"accepting"}` {
		t.Errorf("it said %s", said)
	}
	select {
	case <-p.Released():
		t.Error("released before the predecessor said so")
	default:
	}
	f.say(`{"kind":"released","counts":{"n":1}}`)
	await(t, p.Released())
	if n := <-counts; n != `{"n":1}` {
		t.Errorf("the counts were %s when it was released", n)
	}
	f.say(`{"kind":"counts","counts":{"n":2}}`)
	p.Stop()
	if said := f.hears(); said != `{"kind":"stop"}` {
		t.Errorf("it said %s", said)
	}
	_ = f.conn.Close()
	await(t, p.Gone())
	if n := <-counts; n != `{"n":2}` {
		t.Errorf("the last counts were %s", n)
	}
	p.Stop() // nobody is there: it must not matter
}

func await(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain")
	}
}

// Up to accept, everything that goes wrong ends the successor, which leaves nothing open and says why.
func TestInheritRefuses(t *testing.T) {
	const oneSocket = `{"kind":"hello","version":1,"sockets":1}`
	for _, tt := range []struct {
		name string
		say  func(f *far, fd int)
		want string
	}{
		{"another version", func(f *far, _ int) { f.say(`{"kind":"hello","version":2}`) }, "version 2"},
		{"no hello", func(f *far, _ int) { f.say(`{"kind":"accept"}`) }, "accept"},
		{"not JSON", func(f *far, fd int) { f.say("hello", fd) }, "invalid character"},
		{"a socket without a descriptor", func(f *far, _ int) { f.say(oneSocket); f.say(`{"kind":"socket","socket":{}}`) }, "0 descriptors"},
		{"a socket with two", func(f *far, fd int) { f.say(oneSocket); f.say(`{"kind":"socket","socket":{}}`, fd, fd) }, "2 descriptors"},
		{"a descriptor without a socket", func(f *far, fd int) { f.say(oneSocket); f.say(`{"kind":"socket"}`, fd) }, "for one socket"},
		{"a descriptor beside a word", func(f *far, fd int) { f.say(oneSocket, fd) }, "no socket"},
		{"too many descriptors", func(f *far, fd int) {
			f.say(oneSocket)
			f.say(`{"kind":"socket","socket":{}}`, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd, fd)
		}, "cut off"},
		{"the end before all sockets", func(f *far, fd int) {
			f.say(`{"kind":"hello","version":1,"sockets":2}`)
			f.say(`{"kind":"socket","socket":{"name":"x"}}`, fd)
			_ = f.conn.CloseWrite()
		}, "ended before"},
		{"abort", func(f *far, fd int) {
			f.say(`{"kind":"hello","version":1,"sockets":2}`)
			f.say(`{"kind":"socket","socket":{"name":"x"}}`, fd)
			f.say(`{"kind":"abort"}`)
		}, upgrade.ErrAborted.Error()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			f := inherited(t)
			tt.say(f, aSocket(t))
			p, err := upgrade.Inherit()
			if err == nil {
				p.Fail(errors.New("test"))
				t.Fatal("it was taken")
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not say %q in one line", err, tt.want)
			}
			if said := f.hears(); !strings.HasPrefix(said, `{"kind":"failed","reason":"`) {
				t.Errorf("the predecessor hears %s", said)
			}
		})
	}
}

// A descriptor that some parent left open by mistake goes no further than this process.
func TestInheritStopsWhatWasLeftOpen(t *testing.T) {
	fdtest.NoLeaks(t)
	left, err := unix.FcntlInt(uintptr(aSocket(t)), unix.F_DUPFD, 200) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(left)
	if _, err := upgrade.Inherit(); err != nil {
		t.Fatal(err)
	}
	if flags, err := unix.FcntlInt(uintptr(left), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("flags %#x, %v: a successor of this process would have it too", flags, err)
	}
}

// What is in the variable is from a predecessor, or is said to be wrong.
func TestInheritVariable(t *testing.T) {
	fdtest.NoLeaks(t)
	t.Setenv("STREAMING_DAEMON_UPGRADE_FD", "")
	if p, err := upgrade.Inherit(); p != nil || err != nil {
		t.Errorf("without a predecessor: %v, %v", p, err)
	}
	for _, value := range []string{"x", "0", "-1", "99999"} {
		t.Setenv("STREAMING_DAEMON_UPGRADE_FD", value)
		if _, err := upgrade.Inherit(); err == nil || !strings.Contains(err.Error(), "STREAMING_DAEMON_UPGRADE_FD") {
			t.Errorf("%q: %v", value, err)
		}
	}
}

// From ready on, a predecessor that dies leaves everything to its successor; one that goes on says so.
func TestReadyEnds(t *testing.T) {
	for _, tt := range []struct {
		name string
		end  func(f *far, cancel func())
		want error
	}{
		{"the predecessor dies", func(f *far, _ func()) { _ = f.conn.Close() }, nil},
		{"it goes on", func(f *far, _ func()) { f.say(`{"kind":"abort"}`) }, upgrade.ErrAborted},
		{"the wait is given up", func(_ *far, cancel func()) { cancel() }, context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			f := inherited(t)
			f.say(`{"kind":"hello","version":1}`)
			p, err := upgrade.Inherit()
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			ready := make(chan error, 1)
			go func() { ready <- p.Ready(ctx) }()
			f.hears()
			tt.end(f, cancel)
			if err := <-ready; !errors.Is(err, tt.want) {
				t.Fatalf("%v, want %v", err, tt.want)
			}
			if tt.want != nil {
				p.Fail(errors.New("test"))
				return
			}
			p.Accepting(func(json.RawMessage) { t.Error("counts of a process that is gone") })
			await(t, p.Released())
			await(t, p.Gone())
		})
	}
}

// A gate holds Accept back until it opens, and Close wakes it.
func TestGate(t *testing.T) {
	fdtest.NoLeaks(t)
	for _, opened := range []bool{true, false} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		client, err := net.Dial("tcp", ln.Addr().String()) // lies in the backlog
		if err != nil {
			t.Fatal(err)
		}
		open := make(chan struct{})
		gate := upgrade.Gate(ln, open)
		accepted := make(chan error, 1)
		go func() {
			c, err := gate.Accept()
			if err == nil {
				_ = c.Close()
			}
			accepted <- err
		}()
		select {
		case err := <-accepted:
			t.Errorf("accepted through a closed gate: %v", err)
		case <-time.After(20 * time.Millisecond): // long enough for an accept that does not wait
		}
		if opened {
			close(open)
			if err := <-accepted; err != nil {
				t.Error(err)
			}
		}
		_ = gate.Close()
		_ = gate.Close()
		if !opened {
			if err := <-accepted; !errors.Is(err, net.ErrClosed) {
				t.Errorf("after Close: %v", err)
			}
		}
		_ = client.Close()
	}
}
