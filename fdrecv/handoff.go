package fdrecv

import (
	"errors"
	"net/netip"
	"time"

	"streaming-daemon-go/loop"
)

// Kind is the protocol that a listener speaks. A listening socket has one type, so each kind needs a path of its own.
type Kind uint8

const (
	// KindStream: SOCK_STREAM, the descriptor beside the first bytes, the payload in pieces, complete at EOF. What
	// mod_socket_handoff sent until March 2026.
	KindStream Kind = iota
	// KindSeqpacket: SOCK_SEQPACKET, one message is the whole handoff. What mod_socket_handoff sends since then.
	KindSeqpacket
	// KindFDPass: SOCK_STREAM, one NUL byte with the descriptor and never a payload, complete at that byte. What the
	// stock mod_proxy_fdpass sends, after it has sent the response head itself.
	KindFDPass

	numKinds
)

// String is the name used in log lines.
func (k Kind) String() string {
	switch k {
	case KindStream:
		return "stream"
	case KindSeqpacket:
		return "seqpacket"
	case KindFDPass:
		return "fdpass"
	}
	return "unknown"
}

// Handoff is one passing of a client, or the attempt at one.
type Handoff struct {
	// Client is the client socket; who receives the Handoff owns it. It is close-on-exec and otherwise as the sender
	// left it. It holds none when Err says so (see the sentinels).
	Client loop.FD
	// Kind is that of the listener.
	Kind Kind
	// HeadSent: the sender has sent the response head to the client already, so that only body bytes may follow.
	HeadSent bool
	// Payload is empty when none was sent. Beside ErrMalformed it carries what could be read, the response headers
	// for one: a rejection without the CORS headers among them cannot be read by fetch().
	Payload Payload
	// ClientAddr is the client's TCP address; the zero AddrPort for a Unix socket and where Client holds none.
	ClientAddr netip.AddrPort
	// AcceptedAt is when the connection was accepted, on the loop's clock.
	AcceptedAt time.Duration
	// Err is nil exactly when Client may be streamed to. Otherwise it wraps one of the sentinels below.
	Err error
}

// What can be wrong with a handoff. "Client set" means that Handoff.Client holds the client socket, which still
// deserves an answer: its sender believes that the handoff succeeded.
var (
	// ErrMalformed: the payload is not what it must be. Client set. (HTTP: 400)
	ErrMalformed = errors.New("malformed payload")
	// ErrTooLarge: more than Config.PayloadMax bytes. Client set, Payload empty. (413)
	ErrTooLarge = errors.New("payload too large")
	// ErrBroken: the handoff socket failed after the descriptor had come. Client set, Payload empty. (400)
	ErrBroken = errors.New("handoff broken off")
	// ErrTimeout: not complete in time. Client set when the descriptor had come (408); otherwise nobody is there to
	// be answered.
	ErrTimeout = errors.New("handoff timed out")
	// ErrExtraFD: more than one descriptor. Client set to the first one where that is a connected stream socket; all
	// others are closed. (400)
	ErrExtraFD = errors.New("more than one descriptor in handoff")
	// ErrTruncatedControl: the kernel dropped descriptors (MSG_CTRUNC), because there were too many of them, because this
	// process has no room for more than the first, or because a security module says no. Client set to the first that
	// arrived, if any did. (400)
	ErrTruncatedControl = errors.New("descriptors cut off by the kernel")
	// ErrNoFD: the first bytes came without a descriptor. No client.
	ErrNoFD = errors.New("no descriptor in handoff")
	// ErrNotStreamSocket: the descriptor is something else than a connected stream socket. No client.
	ErrNotStreamSocket = errors.New("descriptor is not a connected stream socket")
	// ErrClientGone: the client reset its connection before the handoff was received. No client.
	ErrClientGone = errors.New("client gone before the handoff")
	// ErrNoHandoff: the connection ended without a byte. This happens in normal operation (a start probes the path; a
	// sender whose message was too large for the kernel gives up), so it is worth a debug line at most. No client.
	ErrNoHandoff = errors.New("connection ended without a handoff")
	// ErrDenied: the peer is none of Config.AllowUIDs and AllowGIDs. Nothing was received: its client, if it sent one, sees
	// its connection end once the peer closes its own copy. No client.
	ErrDenied = errors.New("peer is not allowed to hand over")
	// ErrClosed: the Listener was closed while the handoff was incomplete. Client set when the descriptor had come.
	ErrClosed = errors.New("listener closed")
)
