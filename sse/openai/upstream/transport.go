package upstream

import (
	"errors"
	"fmt"

	"streaming-daemon-go/loop"
)

// Transport carries calls to one Target. Start is for the loops of the pool that it was made for; Counts and Close are
// for any goroutine.
type Transport interface {
	// Start begins a call on l, whose goroutine calls it; it does not block. It never fails here: what goes wrong comes
	// as Fail, in a later turn or at least in a later callback of this one. req is the call's own: see Request.
	Start(l *loop.Loop, req *Request, to Receiver) Call
	// Counts reads what the transport has counted.
	Counts() Counts
	// Close closes idle connections, fails calls that wait for one, and ends the transport's goroutines; it waits for
	// them. Calls under way are left to end, or to their loop's Close. Start after it gives ErrClosed. Twice is safe; not
	// from a loop's goroutine.
	Close()
}

// Request is a POST. The transport adds the authority (Target), Content-Length, `Accept-Encoding: identity` and what
// its own wire needs. Everything that it points to is immutable from Start on, and shared between calls but for Body.
// The transport drops its reference when the response's head has come or the call is over: a stream lives long, and
// its prompt must not live with it.
type Request struct {
	Path   string  // origin form, query included: "/v1/chat/completions"
	Fields []Field // header fields in order; checked: tokens as names, no control characters in values
	Body   []byte
}

// Field is one header field of a request. Names are in canonical form ("Content-Type"); HTTP/2 sends them in lower case.
type Field struct {
	Name, Value string
	Secret      bool // not to be put into a compression table (HPACK: never-indexed literal)
}

// Format prints the name and never the value, whatever the verb: a field may hold a key.
func (f Field) Format(s fmt.State, _ rune) { _, _ = fmt.Fprintf(s, "%s: [secret]", f.Name) }

// Receiver hears what becomes of a call. See the package's ordering. Every method runs on the call's loop, must not
// block, and may call any method of its Call, or start another call.
type Receiver interface {
	// Head: the final response's head has come (1xx are not reported).
	Head(h Head)
	// Body: the next bytes of the body, with every transfer coding taken off; at least one byte, at most 64 KiB. They
	// belong to the transport again when it returns, and must not be written to.
	Body(b []byte)
	// End: the body is complete by its own framing (last chunk, content length, END_STREAM), or, where the response has
	// no length, the connection ended in order: then the body may be cut short, and only its reader can tell.
	End()
	// Fail: the call is over without a complete response, before or after Head. err wraps one of the errors below and
	// names no secret and no bytes of request or response.
	Fail(err error)
}

// Call is one request under way. Its methods are for its loop's goroutine, are allowed inside any callback, and do
// nothing once the call is over.
type Call interface {
	// Pause: no more bytes, please. What was taken from the kernel, or is in flight within a stream's flow-control window
	// of at most 64 KiB, may still come as Body; nothing further is read. Head is not held back. Twice is safe. An upstream
	// that ends while the call is paused is not the end of the call: what is unread still follows Resume.
	Pause()
	// Resume: after Pause. Bodies may come again, in a later callback.
	Resume()
	// Release: the caller has all that it needs of a response that is about to end by itself. The transport reads and
	// drops a short rest so that the connection can be used again, and ends the call hard if it is not short.
	Release()
	// Cancel: nobody wants the response any more. The upstream hears of it now, before Cancel returns or in the write
	// that it has queued (a close, RST_STREAM): tokens cost money.
	Cancel()
}

// Head is what a response's head says. Its slices are valid until Receiver.Head returns and must not be written to.
type Head struct {
	Status      int    // 200 to 599
	ContentType []byte // the first Content-Type as it came, white space at the ends taken off; nil when there is none
	RetryAfter  []byte // likewise Retry-After
}

// Target is where a transport's connections go. It is comparable: calls to equal targets share a transport.
type Target struct {
	TLS         bool   // https
	Host        string // name or IP literal without brackets; for Host, SNI and the certificate
	Port        int    // 1 to 65535
	Socket      string // path of a Unix socket to connect to in place of Host and Port; "" for TCP
	PriorH2     bool   // plain HTTP/2 by prior knowledge (RFC 9113, section 3.3); only without TLS
	InsecureTLS bool   // the certificate is not verified
}

// Counts is the state of a transport, summed over its loops.
type Counts struct {
	Open    int64  // connections now, those being made included
	Idle    int64  // of these, without a call
	Calls   int64  // calls now: started, neither over nor cancelled
	Dials   uint64 // connections begun since the start
	Reused  uint64 // calls that went out on a connection that was open already
	Retried uint64 // calls that were sent again because such a connection turned out to be dead
	BytesIn uint64 // of bodies
	Paused  int64  // calls paused now
}

// What Fail says. Each is a decision of the backend: what the client is told, and what is counted.
var (
	ErrResolve        = errors.New("upstream: name not resolved")
	ErrConnect        = errors.New("upstream: no connection")                      // refused, unreachable, out of descriptors
	ErrConnectTimeout = errors.New("upstream: no connection in time")              // TLS handshake included
	ErrTLS            = errors.New("upstream: TLS handshake failed")               // certificate, protocol version
	ErrBroken         = errors.New("upstream: connection broke")                   // within the request or the response
	ErrProtocol       = errors.New("upstream: response is not HTTP as it must be") // malformed, too large a head, a content coding
	ErrRefused        = errors.New("upstream: call refused by the connection")     // HTTP/2: REFUSED_STREAM or GOAWAY, also after a retry
	ErrPanic          = errors.New("upstream: panic in a callback")                // ours; the connection is closed
	ErrClosed         = errors.New("upstream: transport closed")
)
