package endpoint

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
)

// Limits is what one HTTP client may cost, and how long an end may take. An endpoint shares descriptors and memory with
// the streams, and whoever can reach it must not be able to take them. Every one has to be set, Patience excepted.
type Limits struct {
	HeaderRead  time.Duration // from the first byte of a request to the end of its head
	Read        time.Duration // the whole request, body included
	Write       time.Duration // from the end of the head to the end of the answer
	Idle        time.Duration // between two requests
	HeaderBytes int           // net/http adds 4096 to it
	Conns       int           // open at once; more wait in the kernel's backlog

	Patience time.Duration // how long Shutdown lets requests end before it cuts them; 0: until its context is done
	Grace    time.Duration // how long it waits for handlers after that
}

// Config is what New needs. It is not kept by reference.
type Config struct {
	Name    string // of the package whose endpoint this is, for errors and log lines
	Handler http.Handler
	Limits  Limits
	Log     *slog.Logger // what net/http warns about goes there too; nil discards it
}

// Server is one HTTP listener with its connections. Every method but Start may be called from any goroutine.
type Server struct {
	name   string
	addr   net.Addr
	log    *slog.Logger
	limits Limits
	socket *slotListener // immutable; closed by Shutdown
	http   *http.Server
	slots  chan struct{} // one token per open connection, and the one that Accept waits with
	served chan struct{} // closed when the accepting goroutine is gone

	shutdown    sync.Once
	shutdownErr error // valid once shutdown ran
}

// New makes a Server that Start starts. It takes ln, which may come from a predecessor or a service manager: its Accept
// may wait until the one before has stopped, and whoever else holds the socket goes on listening after Shutdown.
func New(ln net.Listener, cfg Config) *Server {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lim := cfg.Limits
	s := &Server{
		name:   cfg.Name,
		addr:   ln.Addr(),
		log:    log,
		limits: lim,
		slots:  make(chan struct{}, lim.Conns),
		served: make(chan struct{}),
	}
	s.socket = &slotListener{Listener: ln, slots: s.slots, closed: make(chan struct{})}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // a connection that is handed over carries one HTTP/1.1 exchange (P-16)
	s.http = &http.Server{
		Handler:           cfg.Handler,
		Protocols:         protocols,
		ReadHeaderTimeout: lim.HeaderRead,
		ReadTimeout:       lim.Read,
		WriteTimeout:      lim.Write,
		IdleTimeout:       lim.Idle,
		MaxHeaderBytes:    lim.HeaderBytes,
		ConnState:         s.connState,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	return s
}

// Start serves HTTP/1.1 until Shutdown. Once, before any other method but Addr.
func (s *Server) Start() {
	go func() {
		defer close(s.served)
		err := s.http.Serve(s.socket)
		if !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.log.Error(s.name+": stopped serving", "addr", s.addr.String(), "err", err)
		}
	}()
}

// Addr is the address listened on, with the port that was picked for port 0.
func (s *Server) Addr() net.Addr { return s.addr }

// SyscallConn reaches the listening socket, so that a duplicate can be handed to a successor before Shutdown. An error:
// the listener given to New does not know its socket.
func (s *Server) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.socket.Listener.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, fmt.Errorf("%s: %T has no descriptor", s.name, s.socket.Listener)
}

// GiveBack ends what a hijacked connection counts for. A handler that hijacks owes one call for each, once the
// connection's descriptor is closed; Shutdown waits for it.
func (s *Server) GiveBack() { <-s.slots }

// Shutdown stops listening at once, lets running requests end until Limits.Patience is over or ctx is done, then cuts
// them. When it returns nil or ctx's error, every connection is closed and its goroutine is returning: no descriptor is
// left, and no goroutine of ours. The one other error is that of a handler which, Limits.Grace after it was cut, still
// runs: only its goroutine, and a connection that it hijacked, are left then. Twice is safe: the second call waits for
// the first and returns its error.
//
// A connection that has not sent a byte yet counts as a running request.
func (s *Server) Shutdown(ctx context.Context) error {
	s.shutdown.Do(func() { s.shutdownErr = s.stop(ctx) })
	return s.shutdownErr
}

// stop does not begin with http.Server.Shutdown: once that is called, a request that has come in already and is being
// read gets a closed connection for an answer.
func (s *Server) stop(ctx context.Context) error {
	patience, cancel := ctx, context.CancelFunc(func() {})
	if s.limits.Patience > 0 {
		patience, cancel = context.WithTimeout(ctx, s.limits.Patience)
	}
	defer cancel()
	_ = s.socket.Close() // an error: it is closed
	<-s.served
	s.http.SetKeepAlivesEnabled(false) // closes what is idle, and the rest behind its answer
	// Accept has given its slot back; who holds all of them knows that every connection has given back its own.
	taken := s.takeSlots(0, patience.Done())
	if taken == cap(s.slots) {
		return s.http.Close() // nothing is left to close; it marks the end
	}
	// What Close reports are sockets that were already gone.
	_ = s.http.Close()
	grace, cancel := context.WithTimeout(context.Background(), s.limits.Grace)
	defer cancel()
	if taken = s.takeSlots(taken, grace.Done()); taken < cap(s.slots) {
		return errors.Join(ctx.Err(), fmt.Errorf("%s: a request still runs %v after its connection was cut (%d of %d slots are free)",
			s.name, s.limits.Grace, taken, cap(s.slots)))
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
// does. The descriptor is closed by then. That of a hijacked one is given back by GiveBack.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed {
		<-s.slots
	}
}
