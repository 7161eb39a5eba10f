package load

import (
	"fmt"

	"streaming-daemon-go/fdrecv"
)

// SocketType is the type of a handoff socket.
type SocketType uint8

// The two types: the current module of the web server speaks the first, the older one the second.
const (
	Seqpacket SocketType = iota
	Stream
)

func (t SocketType) kind() fdrecv.Kind {
	if t == Stream {
		return fdrecv.KindStream
	}
	return fdrecv.KindSeqpacket
}

func (t SocketType) String() string { return [...]string{"seqpacket", "stream"}[t] }

// MarshalText is String, for JSON and flags.
func (t SocketType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes what String gives.
func (t *SocketType) UnmarshalText(b []byte) error {
	for _, is := range []SocketType{Seqpacket, Stream} {
		if is.String() == string(b) {
			*t = is
			return nil
		}
	}
	return fmt.Errorf("load: socket type %q: seqpacket or stream", b)
}

// ClientType is what a client socket is.
type ClientType uint8

// TCP on loopback, or a socket pair, which leaves the cost of TCP out.
const (
	TCP ClientType = iota
	Pair
)

func (t ClientType) String() string { return [...]string{"tcp", "pair"}[t] }

// MarshalText is String, for JSON and flags.
func (t ClientType) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText takes what String gives.
func (t *ClientType) UnmarshalText(b []byte) error {
	for _, is := range []ClientType{TCP, Pair} {
		if is.String() == string(b) {
			*t = is
			return nil
		}
	}
	return fmt.Errorf("load: client type %q: tcp or pair", b)
}
