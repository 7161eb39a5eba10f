package streamtest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// Client is the far end of a client socket.
type Client struct {
	net.Conn
	FD  int     // the number of the near end, valid while the server holds it
	Got string  // read so far
	end loop.FD // the near end, until it is handed off
	tcp bool
	t   testing.TB
}

// NewTCP makes a client over loopback TCP whose socket has not been handed off. It is as Apache leaves it (P-05): with
// Nagle's algorithm on, a fast stream stands still for 40 ms again and again, until the client's delayed ACK.
func NewTCP(t testing.TB) *Client {
	t.Helper()
	server, far := fdtest.TCPPair(t)
	if err := loop.SetInt(server.Int(), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		t.Fatal(err)
	}
	return &Client{Conn: far, FD: server.Int(), end: server, tcp: true, t: t}
}

// NewUnix is NewTCP over a pair of Unix sockets.
func NewUnix(t testing.TB) *Client {
	t.Helper()
	server, far := fdtest.SocketPair(t, unix.SOCK_STREAM)
	f := os.NewFile(uintptr(far.Release()), "client")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &Client{Conn: c, FD: server.Int(), end: server, t: t}
}

// Kinds are the two ways to make a client.
var Kinds = map[string]func(testing.TB) *Client{"tcp": NewTCP, "unix": NewUnix}

// Take makes the handoff of the client's socket; the caller owns the descriptor in it.
func (c *Client) Take() fdrecv.Handoff {
	h := fdrecv.Handoff{Client: c.end, Kind: fdrecv.KindSeqpacket}
	c.end = loop.FD{}
	if c.tcp {
		h.ClientAddr = netip.MustParseAddrPort("127.0.0.1:1")
	}
	return h
}

// TCP hands a new TCP client off on loop 0 with a payload in JSON ("" for none).
func (r *Rig) TCP(payload string) *Client {
	r.t.Helper()
	c := NewTCP(r.t)
	h := c.Take()
	h.Payload = Payload(r.t, payload)
	r.Handoff(0, h)
	return c
}

// Unix is TCP with a Unix socket.
func (r *Rig) Unix(payload string) *Client {
	r.t.Helper()
	c := NewUnix(r.t)
	h := c.Take()
	h.Payload = Payload(r.t, payload)
	r.Handoff(0, h)
	return c
}

// Until reads until what was read contains text, and gives all that was read.
func (c *Client) Until(text string) string {
	c.t.Helper()
	b := make([]byte, 32<<10)
	_ = c.SetReadDeadline(time.Now().Add(Patience))
	for !strings.Contains(c.Got, text) {
		n, err := c.Read(b)
		c.Got += string(b[:n])
		if err != nil && !strings.Contains(c.Got, text) {
			c.t.Fatalf("%v, before %q came; %d bytes so far: %.300q", err, text, len(c.Got), c.Got)
		}
	}
	return c.Got
}

// All reads to an orderly end, and gives all that was read.
func (c *Client) All() string {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(Patience))
	b, err := io.ReadAll(c)
	c.Got += string(b)
	if err != nil {
		c.t.Fatalf("%v after %.300q", err, c.Got)
	}
	_ = c.Close()
	return c.Got
}

// AwaitEnd reads to any end, a reset included, and gives all that was read.
func (c *Client) AwaitEnd() string {
	c.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(Patience))
	b, err := io.ReadAll(c)
	c.Got += string(b)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("%v after %.300q", err, c.Got)
	}
	return c.Got
}

// Nothing fails the test when there is something to read now, an end included.
func (c *Client) Nothing() {
	c.t.Helper()
	raw, err := c.Conn.(syscall.Conn).SyscallConn()
	if err != nil {
		c.t.Fatal(err)
	}
	var b [256]byte
	_ = raw.Control(func(fd uintptr) {
		if n, err := loop.Recv(int(fd), b[:]); err != unix.EAGAIN {
			c.t.Errorf("%d bytes, %v: %q, want nothing yet", n, err, b[:max(n, 0)])
		}
	})
}
