package metrics

import (
	"log/slog"
	"net"
	"net/http"
	"time"

	"streaming-daemon-go/metrics/endpoint"
)

// serverLimits: scrapers ask every 15 to 60 s, in one small request, and keep
// their connection; a page is some 10 KB. 64 connections are a dozen scrapers
// and a person or two, and few beside the descriptors kept in reserve.
// Handlers hear that their connection was cut through the request's context.
// A profile adds its own length to the write timeout.
var serverLimits = endpoint.Limits{
	HeaderRead:  5 * time.Second,
	Read:        10 * time.Second,
	Write:       30 * time.Second,
	Idle:        2 * time.Minute,
	HeaderBytes: 16 << 10,
	Conns:       64,
	Grace:       2 * time.Second,
}

// bodyBytes bounds a request's body: pprof's symbol look-up sends one; nobody
// else has a reason to.
const bodyBytes = 64 << 10

const (
	metricsFlag = "-metrics-addr"
	pprofFlag   = "-pprof-addr"
	goodAddr    = "127.0.0.1:9090"
)

// Listen binds addr (host:port; port 0 picks a free one) for the metrics
// endpoint and serves h on it until Shutdown. h sees request bodies cut off at
// 64 KiB and must not hijack a connection. Warnings of net/http, a panic of h
// with its stack among them, go to log; nil discards them.
//
// An error is one line that names -metrics-addr, the address and the mend, and
// wraps the cause (syscall.EADDRINUSE, ...); nothing is left open then. An
// empty addr is an error: it would listen on every interface, on any port.
func Listen(addr string, h http.Handler, log *slog.Logger) (*endpoint.Server, error) {
	return listen(metricsFlag, addr, h, log, serverLimits)
}

// ListenPprof is Listen for PprofHandler; its errors name -pprof-addr.
func ListenPprof(addr string, log *slog.Logger) (*endpoint.Server, error) {
	return listen(pprofFlag, addr, PprofHandler(), log, serverLimits)
}

func listen(flag, addr string, h http.Handler, log *slog.Logger, lim endpoint.Limits) (*endpoint.Server, error) {
	ln, err := endpoint.Listen("metrics", flag, addr, goodAddr)
	if err != nil {
		return nil, err
	}
	return serve(ln, h, log, lim), nil
}

// Serve is Listen on a listener that is there already, handed over by a
// predecessor or a service manager: see endpoint.New.
func Serve(ln net.Listener, h http.Handler, log *slog.Logger) *endpoint.Server {
	return serve(ln, h, log, serverLimits)
}

// ServePprof is Serve for PprofHandler.
func ServePprof(ln net.Listener, log *slog.Logger) *endpoint.Server {
	return serve(ln, PprofHandler(), log, serverLimits)
}

func serve(ln net.Listener, h http.Handler, log *slog.Logger, lim endpoint.Limits) *endpoint.Server {
	s := endpoint.New(ln, endpoint.Config{Name: "metrics", Handler: boundBody(h, bodyBytes), Limits: lim, Log: log})
	s.Start()
	return s
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
