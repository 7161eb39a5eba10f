package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/accesslog"
	"streaming-daemon-go/cmd/streaming-daemon/config"
	"streaming-daemon-go/cmd/streaming-daemon/front"
	"streaming-daemon-go/cmd/streaming-daemon/health"
	"streaming-daemon-go/cmd/streaming-daemon/inspect"
	"streaming-daemon-go/cmd/streaming-daemon/systemd"
	"streaming-daemon-go/cmd/streaming-daemon/upgrade"
	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/metrics"
	"streaming-daemon-go/metrics/endpoint"
	"streaming-daemon-go/sse/stream"
)

const (
	retryAfter   = 5 * time.Second // told to clients past -max-connections
	cutSpread    = 5 * time.Second // over which the streams left at the end of the drain are closed
	cutGrace     = 4 * time.Second // for the last of them to take its event and close
	drainPoll    = 10 * time.Millisecond
	httpShutdown = time.Second     // for running scrapes at the end
	sendTimeout  = 2 * time.Second // of the front and of the handoff subcommand
)

// gcPercent is GOGC where the environment does not set it: see the README, Memory.
const gcPercent = 50

// daemon is a running daemon.
type daemon struct {
	cfg            *config.Config // owned by the goroutine in serve, once started
	log            *slog.Logger
	logging        *logging
	fds            descriptors // immutable
	loops          int         // immutable; -loops, or what was chosen
	maxConnections atomic.Int64
	reread         func() (*config.Config, error) // reads the settings again; set before serve
	access         atomic.Pointer[accesslog.Log]  // nil: off; changed by the goroutine in serve

	pool      *loop.Pool
	backends  backends
	server    *stream.Server
	inherited *inheritance
	listeners []handoffListener
	gone      []handoffListener // of a predecessor, configured no more: drained from the start
	front     *front.Server
	http      map[string]httpServer // by name
	metrics   *metrics.Metrics
	health    *health.Checker
	notifier  *systemd.Notifier
	program   upgrade.Program // what a successor is started from
	counters  counters
	frontAddr string // -front, as configured

	deniedNext time.Duration // owned by the receiving loop: no line about a denied peer before this time on its clock
	deniedMore int           // likewise: denied since the last line

	draining atomic.Bool
}

// httpServer is an HTTP listener with its configured address.
type httpServer struct {
	*endpoint.Server
	configured string
}

// defaultLoops is -loops 0. One loop carries 18,000 streams at an event a second on a tenth of a core, and each
// further one costs wake-ups and a hop between loops at each handoff: see bench/RESULTS.md.
func defaultLoops() int { return max(1, runtime.GOMAXPROCS(0)/4) }

// start makes a daemon from cfg, listeners last: whoever can connect is served. An error is one line that names the
// flag and the mend, and leaves nothing behind.
func start(cfg *config.Config, logging *logging, log *slog.Logger) (d *daemon, err error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	loops := cfg.Loops
	if loops == 0 {
		loops = defaultLoops()
	}
	// A loop keeps its P while it waits for a moment (package loop says why): scrapes and the garbage collector need one
	// of their own.
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), loops+1))
	d = &daemon{cfg: cfg, log: log, logging: logging, loops: loops, http: map[string]httpServer{}}
	begun := d // d itself is nil after `return nil, err`
	defer func() {
		if err != nil {
			begun.close()
			begun.inherited.close(err)
		}
	}()
	if d.program, err = upgrade.Self(); err != nil {
		return nil, err
	}
	if d.inherited, err = inherit(); err != nil {
		return nil, err
	}
	completions, err := openaiOptions(cfg, os.Getenv)
	if err != nil {
		return nil, err
	}
	accessLog, err := openAccessLog(d, cfg.AccessLog, cfg.AccessLogFormat)
	if err != nil {
		return nil, fmt.Errorf("-access-log: %w", err)
	}
	d.access.Store(accessLog)
	if d.fds, err = shareDescriptors(loops, len(cfg.Listeners)+len(d.inherited.activated), needOf(completions)); err != nil {
		return nil, err
	}
	if d.pool, err = loop.NewPool(loops); err != nil {
		return nil, fmt.Errorf("-loops %d: %w", loops, err)
	}
	d.metrics = metrics.New(build(), d.snapshot)
	if completions != nil {
		d.observeCompletions(completions)
		if completions.IdleConns = d.fds.idleConns; completions.IdleConns == 0 {
			completions.IdleConns = -1 // none; 0 would be the default
		}
	}
	if d.backends, err = newBackends(cfg, d.pool, completions); err != nil {
		return nil, err
	}
	d.server = stream.NewServer(d.pool, d.streamConfig())
	d.health = health.New(d.pool.Loops())
	if d.notifier, err = systemd.NewNotifier(systemd.Config{Status: d.status, Hung: d.health.Hung, Log: log}); err != nil {
		return nil, err
	}
	if err := d.startHTTP(); err != nil {
		return nil, err
	}
	if err := d.startFront(); err != nil {
		return nil, err
	}
	if err := d.listen(); err != nil {
		return nil, err
	}
	if err := d.takeOver(); err != nil {
		return nil, err
	}
	if err := d.serveHandoffs(); err != nil {
		return nil, err
	}
	d.tookOver()
	if d.front != nil {
		d.log.Info("front: open this page in a browser", "url", d.front.URL())
	}
	return d, nil
}

func build() metrics.Build {
	v, revision := buildVersion()
	return metrics.Build{Version: v, Revision: revision}
}

// streamConfig is what d.cfg says of streams. It notes the number of streams that are possible.
func (d *daemon) streamConfig() stream.Config {
	streams := d.fds.streams(d.cfg.MaxConnections, d.log)
	d.maxConnections.Store(int64(streams))
	return stream.Config{
		NewBackend:        d.backends.origins[d.cfg.Backend].NewBackend,
		Conn:              conn.Config{WriteTimeout: d.cfg.WriteTimeout},
		MaxConnections:    streams,
		RejectReserve:     d.fds.rejectReserve,
		RejectSSE:         d.cfg.Reject == "sse",
		RetryAfter:        retryAfter,
		MaxPendingBytes:   d.cfg.MaxPendingBytes,
		HeartbeatInterval: d.cfg.HeartbeatInterval,
		MaxStreamDuration: d.cfg.MaxStreamDuration,
		KeepAccess:        d.cfg.AccessLog != "",
		Log:               d.log,
		FirstByte:         d.metrics.ObserveFirstByte,
		Ended:             d.streamEnded,
		Rejected:          func(e stream.End) { d.logAccess(e, endRejected) },
		OpenFailed:        func(error) { d.counters.streamErrors[metrics.ReasonNetwork].Add(1) },
	}
}

// streamEnded is called on a loop.
func (d *daemon) streamEnded(e stream.End) {
	d.metrics.ObserveStream(e.Duration)
	if e.Cause != nil {
		d.counters.streamErrors[streamReason(e.Cause)].Add(1)
	}
	d.logAccess(e, endWord(e.Cause))
	if d.log.Enabled(context.Background(), slog.LevelDebug) { // the arguments allocate even for a line that is not written
		d.log.Debug("stream ended", "duration", e.Duration, "events", e.Events, "bytes", e.Bytes, "cause", e.Cause)
	}
}

// startHTTP opens the metrics and pprof listeners.
func (d *daemon) startHTTP() error {
	if addr := d.cfg.MetricsAddr; addr != "" {
		err := d.startHTTPServer(nameMetrics, addr,
			func() (*endpoint.Server, error) { return metrics.Listen(addr, d.routes(), d.log) },
			func(ln net.Listener) *endpoint.Server { return metrics.Serve(ln, d.routes(), d.log) })
		if err != nil {
			return err
		}
		d.log.Info("listening", "metrics", "http://"+d.http[nameMetrics].Addr().String()+"/metrics")
	}
	if addr := d.cfg.PprofAddr; addr != "" {
		err := d.startHTTPServer(namePprof, addr,
			func() (*endpoint.Server, error) { return metrics.ListenPprof(addr, d.log) },
			func(ln net.Listener) *endpoint.Server { return metrics.ServePprof(ln, d.log) })
		if err != nil {
			return err
		}
		d.log.Info("listening", "pprof", "http://"+d.http[namePprof].Addr().String()+"/debug/pprof/")
	}
	return nil
}

// startHTTPServer serves on the listener that was passed on for a name, or opens one.
func (d *daemon) startHTTPServer(name, addr string, listen func() (*endpoint.Server, error), serve func(net.Listener) *endpoint.Server) error {
	ln, err := d.inherited.http(name, addr)
	if err != nil {
		return err
	}
	var s *endpoint.Server
	if ln != nil {
		s = serve(ln)
	} else if s, err = listen(); err != nil {
		return err
	}
	d.http[name] = httpServer{s, addr}
	return nil
}

// routes is what the metrics listener answers.
func (d *daemon) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", d.metrics.Handler())
	mux.Handle("GET /healthz", d.health.Alive())
	mux.Handle("GET /readyz", d.health.Ready(d.notReady))
	mux.Handle("/streams", inspect.Handler(d.server))
	return mux
}

// notReady says why handoffs would not be accepted; nil: they are. Not from a loop.
func (d *daemon) notReady() (why []string) {
	if d.draining.Load() {
		return []string{"draining"}
	}
	for _, ln := range d.listeners {
		if !ln.Listening() {
			why = append(why, "the "+ln.Kind().String()+" socket "+ln.path+" is closed")
		}
	}
	return why
}

// listen opens the handoff sockets, or takes those that are open. Nothing is accepted yet.
func (d *daemon) listen() error {
	for _, s := range d.cfg.Listeners {
		ln, ok, err := d.inherited.handoff(s.Kind, s.Path)
		if !ok {
			ln.path = s.Path
			ln.Listener, err = fdrecv.Listen(fdrecv.ListenConfig{Path: s.Path, Kind: s.Kind, Mode: s.Mode, UID: s.UID, GID: s.GID})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		ln.from = s
		d.listeners = append(d.listeners, ln)
		d.log.Info("listening", "socket", s.Path, "kind", s.Kind.String(), "inherited", ok)
	}
	extra, gone, err := d.inherited.rest()
	d.listeners, d.gone = append(d.listeners, extra...), gone
	for _, ln := range extra {
		d.log.Info("listening", "socket", ln.path, "kind", ln.Kind().String(), "inherited", true)
	}
	return err
}

// serveHandoffs receives on the first loop: handoffs are short, and one loop sees the whole picture of the load.
func (d *daemon) serveHandoffs() error {
	l := d.pool.Loops()[0]
	buffer := new(fdrecv.Buffer)
	for _, ln := range slices.Concat(d.listeners, d.gone) {
		from := &origin{payload: ln.from.Payload, byDefault: d.backends.origins[cmp.Or(ln.from.Backend, d.cfg.Backend)]}
		if _, refusal := d.backends.choose(&from.payload, from.byDefault); refusal != nil {
			return fmt.Errorf("%s: the default payload: %s", ln.from.Name, refusal.Message)
		}
		err := ln.Serve(l, fdrecv.Config{
			Timeout:    d.cfg.HandoffTimeout,
			PendingMax: d.fds.pendingMax,
			AllowUIDs:  ln.from.AllowUIDs,
			AllowGIDs:  ln.from.AllowGIDs,
			Buffer:     buffer,
			Accepted:   func() { d.counters.connections.Add(1) },
			Handoff:    func(h fdrecv.Handoff) { d.handoff(l, h, from) },
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// origin is what the configuration says of the handoffs of one socket.
type origin struct {
	byDefault *stream.Origin // of those whose payload chooses no backend
	payload   fdrecv.Payload // of those that bring none
}

// handoff counts the outcome of a handoff and passes it on. It is called on the receiving loop.
func (d *daemon) handoff(l *loop.Loop, h fdrecv.Handoff, from *origin) {
	to := from.byDefault
	if h.Err == nil {
		if h.Payload.Raw() == nil {
			h.Payload = from.payload
		}
		if chosen, refusal := d.backends.choose(&h.Payload, to); refusal != nil {
			h.Err = refusal
		} else {
			to = chosen
		}
	}
	if h.Err == nil {
		d.counters.handoffs.Add(1)
		d.metrics.ObserveHandoff(l.Clock() - h.AcceptedAt)
	} else {
		d.counters.handoffErrors[handoffReason(h.Err)].Add(1)
		d.log.Debug("handoff failed", "kind", h.Kind.String(), "client", h.ClientAddr, "error", h.Err)
	}
	if errors.Is(h.Err, fdrecv.ErrDenied) {
		d.logDenied(l.Clock(), h)
	}
	d.server.HandoffFrom(l.Index(), h, to)
}

// logDenied is called on the receiving loop. Somebody who may write to the socket and is not allowed to is worth a line,
// and no more than one a second.
func (d *daemon) logDenied(now time.Duration, h fdrecv.Handoff) {
	if now < d.deniedNext {
		d.deniedMore++
		return
	}
	d.log.Warn("a peer that is not in allow-uids or allow-gids tried to hand over", "kind", h.Kind.String(), "error", h.Err,
		"more_since_last_line", d.deniedMore)
	d.deniedNext, d.deniedMore = now+time.Second, 0
}

// startFront starts the stand-in for Apache. It hands over through a socket like any sender. It comes before the
// handoff sockets: were its address taken after they are open, the handoffs that came meanwhile would be lost. A page
// that is asked for earlier than they are gets a 503.
func (d *daemon) startFront() error {
	if d.cfg.Front == "" {
		return nil
	}
	d.frontAddr = d.cfg.Front
	to := d.frontSocket()
	cfg := front.Config{
		Addr: d.cfg.Front,
		Send: func(client int, payload []byte) error {
			return fdrecv.Send(to.Path, to.Kind, client, payload, sendTimeout)
		},
		Log: d.log,
	}
	if s, ok := d.http[nameMetrics]; ok {
		cfg.MetricsURL = "http://" + s.Addr().String() + "/metrics"
	}
	var err error
	if cfg.Listener, err = d.inherited.http(nameFront, d.cfg.Front); err != nil {
		return err
	}
	d.front, err = front.Start(cfg)
	return err
}

// frontSocket is where the front hands over: a socket that takes a payload, best the kind that senders use today.
func (d *daemon) frontSocket() (to config.Listener) {
	for _, l := range d.cfg.Listeners {
		switch {
		case l.Kind == fdrecv.KindSeqpacket:
			return l
		case l.Kind == fdrecv.KindStream && to.Path == "":
			to = l
		}
	}
	return to
}

// close ends what start has started. Streams that are still open are closed without a word.
func (d *daemon) close() {
	d.shutdownFront()
	for _, ln := range slices.Concat(d.listeners, d.gone) {
		ln.Close()
	}
	d.backends.close() // while the loops turn: they close the connections
	if d.pool != nil {
		d.pool.Close()
	}
	d.shutdownHTTP()
	if d.notifier != nil {
		d.notifier.Close()
	}
	if log := d.access.Load(); log != nil {
		log.Close()
	}
}
