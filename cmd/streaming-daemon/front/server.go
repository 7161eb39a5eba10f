package front

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"streaming-daemon-go/metrics/endpoint"
)

// Config is what Start needs. It is not kept by reference.
type Config struct {
	// Addr is host:port to listen on, the value of -front. Port 0 picks a free one.
	Addr string

	// Listener is one that is there already, handed over by a predecessor; nil: Start opens one. Start takes it, in place of
	// Addr; its Accept may wait until the one before has stopped. Whoever else holds the socket goes on listening after
	// Shutdown.
	Listener net.Listener

	// Send hands a client over, with its payload (a JSON object). client is the descriptor itself, not a duplicate:
	// it is valid until Send returns, Send must not close it, and the front closes it afterwards. payload is Send's.
	// Send may block, for a bounded time (Shutdown waits for it), and is called from many goroutines.
	//
	// An error means that nobody else holds the client, which then gets a 503 from here. That is true of a handoff in
	// one message (SOCK_SEQPACKET); on a SOCK_STREAM socket, where a payload goes in pieces, a send may fail after
	// the descriptor got through, and the client would be answered twice.
	Send func(client int, payload []byte) error

	// MetricsURL is where the page's link to the metrics points; empty: no link.
	MetricsURL string

	// Log may be nil. No prompt is ever logged.
	Log *slog.Logger
}

// bodyBytes bounds the body of a POST; the payload made of it still fits a handoff message, see payload.
const bodyBytes = 64 << 10

// serverLimits: the page allows a prompt of 4000 UTF-16 units (index.html), 36,000 bytes when each is percent-encoded
// in a GET; that and a browser's other header fields fit in 48 KiB. Browsers hold at most six connections to a host
// (and a spare one or two), so 128 are a score of people; a client that was handed over is the daemon's and does not
// count. What Shutdown mostly waits for are those spare connections, which cannot be told from a request on its way:
// hence one second. The five after it are for a Send that runs, a client must not be dropped half-way; they are far
// beyond the patience of a handoff (Apache's module gives it 200 to 500 ms).
var serverLimits = endpoint.Limits{
	HeaderRead:  5 * time.Second,
	Read:        10 * time.Second,
	Write:       10 * time.Second, // an answer of our own: a page, a refusal
	Idle:        time.Minute,
	HeaderBytes: 48 << 10,
	Conns:       128,
	Patience:    time.Second,
	Grace:       5 * time.Second,
}

// Server is the HTTP listener with its connections. Every method may be called from any goroutine.
type Server struct {
	http    *endpoint.Server
	addr    *net.TCPAddr
	send    func(client int, payload []byte) error
	log     *slog.Logger
	warned  atomic.Int64 // when the last failed handoff was logged, Unix seconds
	started time.Time
}

// Start listens on cfg.Addr and serves until Shutdown. An error is one line that names -front, the address and the
// mend, and wraps the cause (syscall.EADDRINUSE, …); nothing is left open then.
func Start(cfg Config) (*Server, error) { return start(cfg, serverLimits) }

func start(cfg Config, lim endpoint.Limits) (*Server, error) {
	if cfg.Send == nil {
		panic("front: Config.Send is nil")
	}
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	listener := cfg.Listener
	if listener == nil {
		var err error
		if listener, err = endpoint.Listen("front", "-front", cfg.Addr, "127.0.0.1:8080"); err != nil {
			return nil, err
		}
	}
	s := &Server{
		addr:    listener.Addr().(*net.TCPAddr),
		send:    cfg.Send,
		log:     log,
		started: time.Now(),
	}
	if !s.addr.IP.IsLoopback() {
		log.Warn("front: whoever can reach this address can open streams: it asks for no password", "addr", s.addr.String())
	}
	s.http = endpoint.New(listener, endpoint.Config{Name: "front", Handler: s.routes(cfg.MetricsURL), Limits: lim, Log: log})
	s.http.Start()
	return s, nil
}

// URL is the address of the page, for people: with the port that was picked for port 0, and with localhost in place of
// "every interface".
func (s *Server) URL() string {
	host := s.addr.IP.String()
	if s.addr.IP.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, fmt.Sprint(s.addr.Port)) + "/"
}

// SyscallConn reaches the listening socket, so that a duplicate can be handed to a successor before Shutdown. An error:
// Config.Listener does not know its socket.
func (s *Server) SyscallConn() (syscall.RawConn, error) { return s.http.SyscallConn() }

// Shutdown stops listening at once, lets running requests end for up to a second or until ctx is done, then cuts them.
// Handoffs under way are waited for in any case, for up to five seconds. When it returns nil or ctx's error, every
// descriptor is closed and every goroutine is returning; clients that were handed over are not touched. The one other
// error says how many connections a Send still holds. Twice is safe: the second call waits for the first and returns
// its error.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }
