package metrics

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

// limits is what one HTTP client may cost. The endpoint shares descriptors and
// memory with the streams, and whoever can reach it must not be able to take
// them.
type limits struct {
	headerRead  time.Duration // from the first byte of a request to the end of its head
	read        time.Duration // the whole request
	write       time.Duration // from the end of the head to the end of the answer; a profile adds its own length
	idle        time.Duration // between two requests
	headerBytes int           // net/http adds 4096 to it
	bodyBytes   int64         // pprof's symbol look-up sends one; nobody else has a reason to
	conns       int           // open at once; more wait in the kernel's backlog
}

// serverLimits: scrapers ask every 15 to 60 s, in one small request, and keep
// their connection; a page is some 10 KB. 64 connections are a dozen scrapers
// and a person or two, and few beside the descriptors kept in reserve.
var serverLimits = limits{
	headerRead:  5 * time.Second,
	read:        10 * time.Second,
	write:       30 * time.Second,
	idle:        2 * time.Minute,
	headerBytes: 16 << 10,
	bodyBytes:   64 << 10,
	conns:       64,
}

// closeGrace is how long Shutdown waits for handlers after it cut their
// connections: they hear of it through the request's context.
const closeGrace = 2 * time.Second

// Server is one HTTP listener with its connections. Every method may be called
// from any goroutine.
type Server struct {
	addr   net.Addr
	socket *slotListener // immutable; closed by Shutdown
	http   *http.Server
	slots  chan struct{} // holds one token per open connection, and the one that Accept waits with
	served chan struct{} // closed when the accepting goroutine is gone

	shutdown    sync.Once
	shutdownErr error // valid once shutdown ran
}

// Listen binds addr (host:port; port 0 picks a free one) for the metrics
// endpoint and serves h on it until Shutdown. h sees request bodies cut off at
// 64 KiB. Warnings of net/http, a panic of h with its stack among them, go to
// log; nil discards them.
//
// An error is one line that names -metrics-addr, the address and the mend, and
// wraps the cause (syscall.EADDRINUSE, ...); nothing is left open then. An
// empty addr is an error: it would listen on every interface, on any port.
func Listen(addr string, h http.Handler, log *slog.Logger) (*Server, error) {
	return listen("-metrics-addr", addr, h, log, serverLimits)
}

// ListenPprof is Listen for PprofHandler; its errors name -pprof-addr.
func ListenPprof(addr string, log *slog.Logger) (*Server, error) {
	return listen("-pprof-addr", addr, PprofHandler(), log, serverLimits)
}

func listen(flag, addr string, h http.Handler, log *slog.Logger, lim limits) (*Server, error) {
	if addr == "" {
		return nil, fmt.Errorf("metrics: %s is empty: give host:port, such as 127.0.0.1:9090", flag)
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("metrics: %s %q: %w: %s", flag, addr, err, mend(err))
	}
	return serve(flag, ln, h, log, lim), nil
}

// Serve is Listen on a listener that is there already, handed over by a
// predecessor or a service manager. It takes ln; its Accept may wait until the
// one before has stopped. Whoever else holds the socket goes on listening
// after Shutdown.
func Serve(ln net.Listener, h http.Handler, log *slog.Logger) *Server {
	return serve("-metrics-addr", ln, h, log, serverLimits)
}

// ServePprof is Serve for PprofHandler.
func ServePprof(ln net.Listener, log *slog.Logger) *Server {
	return serve("-pprof-addr", ln, PprofHandler(), log, serverLimits)
}

func serve(flag string, ln net.Listener, h http.Handler, log *slog.Logger, lim limits) *Server {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		addr:   ln.Addr(),
		slots:  make(chan struct{}, lim.conns),
		served: make(chan struct{}),
	}
	s.socket = &slotListener{Listener: ln, slots: s.slots, closed: make(chan struct{})}
	s.http = &http.Server{
		Handler:           boundBody(h, lim.bodyBytes),
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
			log.Error("metrics: endpoint stopped serving", "flag", flag, "addr", s.addr.String(), "err", err)
		}
	}()
	return s
}

// mend says what to do about a failed bind.
func mend(err error) string {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "another process listens there: stop it, or choose another port"
	case errors.Is(err, syscall.EACCES):
		return "ports below 1024 need CAP_NET_BIND_SERVICE: choose a higher one"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return "no interface of this machine has that address: use 127.0.0.1 or one that it has"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return "raise the limit on open files (LimitNOFILE, ulimit -n)"
	default:
		return "give host:port, such as 127.0.0.1:9090"
	}
}

// Addr is the address listened on, with the port that was picked for port 0.
func (s *Server) Addr() net.Addr { return s.addr }

// SyscallConn reaches the listening socket, so that a duplicate can be handed
// to a successor before Shutdown. An error: the listener given to Serve does
// not know its socket.
func (s *Server) SyscallConn() (syscall.RawConn, error) {
	if c, ok := s.socket.Listener.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, fmt.Errorf("metrics: %T has no descriptor", s.socket.Listener)
}

// Shutdown stops listening at once, lets running requests end until ctx is
// done, then cuts them. When it returns nil or ctx's error, every connection
// is closed and its goroutine is returning: no descriptor is left, and no
// goroutine of ours. The one other error is that of a handler which, two
// seconds after it was cut, still runs: only its goroutine is left then.
// Twice is safe: the second call waits for the first and returns its error.
//
// A connection that has not sent a byte yet counts as a running request.
func (s *Server) Shutdown(ctx context.Context) error {
	s.shutdown.Do(func() {
		s.shutdownErr = s.stop(ctx)
	})
	return s.shutdownErr
}

// stop does not begin with http.Server.Shutdown: once that is called, a
// request that has come in already and is being read gets a closed connection
// for an answer.
func (s *Server) stop(ctx context.Context) error {
	_ = s.socket.Close() // an error: it is closed
	<-s.served
	s.http.SetKeepAlivesEnabled(false) // closes what is idle, and the rest behind its answer
	// Accept has given its slot back; who holds all of them knows that every
	// connection has given back its own.
	taken := s.takeSlots(0, ctx.Done())
	if taken == cap(s.slots) {
		return s.http.Close() // nothing is left to close; it marks the end
	}
	// What Close reports are sockets that were already gone.
	_ = s.http.Close()
	grace, cancel := context.WithTimeout(context.Background(), closeGrace)
	defer cancel()
	if taken = s.takeSlots(taken, grace.Done()); taken < cap(s.slots) {
		return errors.Join(ctx.Err(), fmt.Errorf("metrics: a request still runs %v after its connection was cut (%d of %d slots are free)",
			closeGrace, taken, cap(s.slots)))
	}
	return ctx.Err()
}

// takeSlots takes what is left of the slots until stop, and says how many are
// taken then.
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

// connState gives a slot back when net/http is done with a connection, as the
// last thing that connection's goroutine does. The descriptor is closed by
// then.
func (s *Server) connState(_ net.Conn, state http.ConnState) {
	if state == http.StateClosed || state == http.StateHijacked {
		<-s.slots
	}
}

// slotListener accepts only with a slot in hand; with the connection the slot
// passes to it. Waiting here leaves clients in the kernel's backlog, where
// they cost no descriptor.
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

// boundBody refuses a body that announces more than limit bytes, and cuts off
// one that does not announce its length.
func boundBody(h http.Handler, limit int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > limit {
			w.Header().Set("Connection", "close") // do not read the body to find the next request
			http.Error(w, "request body too large", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, limit)
		h.ServeHTTP(w, r)
	})
}
