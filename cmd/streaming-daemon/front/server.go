package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
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

// limits is what one HTTP client may cost. Streams are not counted: a client that was handed over is the daemon's.
type limits struct {
	headerRead  time.Duration // from the first byte of a request to the end of its head
	read        time.Duration // the whole request, body included
	write       time.Duration // an answer of our own: a page, a refusal
	idle        time.Duration // between two requests
	headerBytes int           // net/http adds 4096 to it
	bodyBytes   int64         // of a POST; the payload made of it still fits a handoff message, see payload
	conns       int           // open at once and not handed over yet; more wait in the kernel's backlog

	// shutdown is how long Shutdown lets requests end before it cuts them.
	shutdown time.Duration
	// send is how long Shutdown waits for a Send that runs, even when its context is done: a client must not be dropped
	// half-way.
	send time.Duration
}

// serverLimits: the page allows a prompt of 4000 UTF-16 units (index.html), 36,000 bytes when each is percent-encoded
// in a GET; that and a browser's other header fields fit in 48 KiB. Browsers hold at most six connections to a host
// (and a spare one or two), so 128 are a score of people. What Shutdown mostly waits for are those spare connections,
// which cannot be told from a request on its way: hence one second. Five for a Send is far beyond the patience
// of a handoff (Apache's module gives it 200 to 500 ms).
var serverLimits = limits{
	headerRead:  5 * time.Second,
	read:        10 * time.Second,
	write:       10 * time.Second,
	idle:        time.Minute,
	headerBytes: 48 << 10,
	bodyBytes:   64 << 10,
	conns:       128,
	shutdown:    time.Second,
	send:        5 * time.Second,
}

// Server is the HTTP listener with its connections. Every method may be called from any goroutine.
type Server struct {
	addr    *net.TCPAddr
	socket  *slotListener // immutable; closed by Shutdown
	http    *http.Server
	send    func(client int, payload []byte) error
	log     *slog.Logger
	limits  limits
	slots   chan struct{} // one token per open connection, and the one that Accept waits with
	served  chan struct{} // closed when the accepting goroutine is gone
	warned  atomic.Int64  // when the last failed handoff was logged, Unix seconds
	started time.Time

	shutdown    sync.Once
	shutdownErr error // valid once shutdown ran
}

// Start listens on cfg.Addr and serves until Shutdown. An error is one line that names -front, the address and the
// mend, and wraps the cause (syscall.EADDRINUSE, …); nothing is left open then.
func Start(cfg Config) (*Server, error) { return start(cfg, serverLimits) }

func start(cfg Config, lim limits) (*Server, error) {
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
		if listener, err = listen(cfg.Addr); err != nil {
			return nil, err
		}
	}
	s := &Server{
		addr:    listener.Addr().(*net.TCPAddr),
		send:    cfg.Send,
		log:     log,
		limits:  lim,
		slots:   make(chan struct{}, lim.conns),
		served:  make(chan struct{}),
		started: time.Now(),
	}
	s.socket = &slotListener{Listener: listener, slots: s.slots, closed: make(chan struct{})}
	if !s.addr.IP.IsLoopback() {
		log.Warn("front: whoever can reach this address can open streams: it asks for no password", "addr", s.addr.String())
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // a socket that is handed over carries one HTTP/1.1 exchange (P-16)
	s.http = &http.Server{
		Handler:           s.routes(cfg.MetricsURL),
		Protocols:         protocols,
		ReadHeaderTimeout: lim.headerRead,
		ReadTimeout:       lim.read,
		WriteTimeout:      lim.write,
		IdleTimeout:       lim.idle,
		MaxHeaderBytes:    lim.headerBytes,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	go func() {
		defer close(s.served)
		err := s.http.Serve(s.socket)
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			log.Error("front: stopped serving", "addr", s.addr.String(), "err", err)
		}
	}()
	return s, nil
}

func listen(addr string) (net.Listener, error) {
	if addr == "" { // net.Listen would take every interface and any port
		return nil, errors.New("front: -front is empty: give host:port, such as 127.0.0.1:8080")
	}
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("front: -front %q: %w: %s", addr, err, mend(err))
	}
	return listener, nil
}

// mend says what to do about a failed bind.
func mend(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process listens there: stop it, or choose another port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface of this machine has that address: use 127.0.0.1"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "raise the limit on open files (LimitNOFILE, ulimit -n)"
	default:
		return "give host:port, such as 127.0.0.1:8080"
	}
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
func (s *Server) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.socket.Listener.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, fmt.Errorf("front: %T has no descriptor", s.socket.Listener)
}

// Shutdown stops listening at once, lets running requests end for up to a second or until ctx is done, then cuts them.
// Handoffs under way are waited for in any case, for up to five seconds. When it returns nil or ctx's error, every
// descriptor is closed and every goroutine is returning; clients that were handed over are not touched. The one other
// error says how many connections a Send still holds. Twice is safe: the second call waits for the first and returns
// its error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.shutdown.Do(func() { s.shutdownErr = s.stop(ctx) })
	return s.shutdownErr
}

// stop does not begin with http.Server.Shutdown: once that is called, a request that has come in already and is being
// read gets a closed connection for an answer.
func (s *Server) stop(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, s.limits.shutdown)
	defer cancel()
	_ = s.socket.Close() // an error: it is closed
	<-s.served
	s.http.SetKeepAlivesEnabled(false) // closes what is idle, and the rest behind its answer
	// Accept has given its slot back; who holds all of them knows that every connection has given back its own.
	taken := s.takeSlots(0, patience.Done())
	_ = s.http.Close() // what it reports are sockets that were already gone
	grace, cancel := context.WithTimeout(context.Background(), s.limits.send)
	defer cancel()
	if taken = s.takeSlots(taken, grace.Done()); taken < cap(s.slots) {
		return errors.Join(ctx.Err(), fmt.Errorf("front: handoffs still run after %v (%d of %d connections are closed)",
			s.limits.send, taken, cap(s.slots)))
	}
	return ctx.Err()
}

// takeSlots takes what is left of the slots until stop, and says how many are taken then.
func (s *Server) takeSlots(taken int, stop <-chan struct{}) int {
	for ; taken < cap(s.slots); taken++ {
		select {
		case s.slots <- struct{}{}:
		case <-stop:
			return taken
		}
	}
	return taken
}

// connState gives a slot back when net/http is done with a connection, as the last thing that connection's goroutine
// does. The slot of one that was hijacked is given back by handOver, once its descriptor is closed.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		<-s.slots
	}
}

// slotListener accepts only with a slot in hand; with the connection the slot passes to it. Waiting here leaves clients
// in the kernel's backlog, where they cost no descriptor.
type slotListener struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	once   sync.Once
}

// Accept implements net.Listener; Close wakes it while it waits for a slot.
func (l *slotListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return c, err
}

// Close implements net.Listener; twice is safe.
func (l *slotListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}
