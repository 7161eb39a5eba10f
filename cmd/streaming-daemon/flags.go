package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/fdrecv"
)

// config is every setting of the daemon.
type config struct {
	socket, seqpacketSocket, fdpassSocket string
	socketMode                            fs.FileMode
	handoffTimeout                        time.Duration

	maxConnections    int
	maxPendingBytes   int64
	writeTimeout      time.Duration
	maxStreamDuration time.Duration
	heartbeatInterval time.Duration
	reject            string

	backend      string
	demoDelay    time.Duration
	demoMessages int

	loops           int
	shutdownTimeout time.Duration

	metricsAddr, pprofAddr, front string
	logLevel                      slog.Level
	logFormat                     string
	version                       bool
}

// flagGroups is the order in which -h prints the flags.
var flagGroups = []struct {
	title string
	names []string
}{
	{"Handoffs", []string{"socket", "seqpacket-socket", "fdpass-socket", "socket-mode", "handoff-timeout"}},
	{"Streams", []string{"max-connections", "reject", "heartbeat-interval", "write-timeout", "max-stream-duration",
		"max-pending-bytes"}},
	{"Backend", []string{"backend", "demo-delay", "demo-messages"}},
	{"Process", []string{"loops", "shutdown-timeout", "metrics-addr", "pprof-addr", "log-level", "log-format", "version"}},
	{"Trying it out", []string{"front"}},
}

// newFlagSet declares every flag, with its default, onto c.
func newFlagSet(c *config) *flag.FlagSet {
	set := flag.NewFlagSet("streaming-daemon", flag.ContinueOnError)
	set.SetOutput(io.Discard) // errors are printed by run, in one line
	set.Usage = func() {}     // printed by parseFlags, when asked for: package flag does it at every error

	set.StringVar(&c.socket, "socket", "/var/run/streaming-daemon.sock",
		"`path` for handoffs over SOCK_STREAM (mod_socket_handoff before March 2026); empty: off")
	set.StringVar(&c.seqpacketSocket, "seqpacket-socket", "/var/run/streaming-daemon.seqpacket.sock",
		"`path` for handoffs over SOCK_SEQPACKET (mod_socket_handoff since March 2026); empty: off")
	set.StringVar(&c.fdpassSocket, "fdpass-socket", "", "`path` for handoffs from the stock mod_proxy_fdpass; empty: off")
	c.socketMode = 0o660
	set.Func("socket-mode", "permission `bits` of the sockets, in octal (default 0660)", func(s string) error {
		n, err := strconv.ParseUint(s, 8, 32)
		if err != nil || n > 0o777 {
			return fmt.Errorf("not permission bits in octal, such as 0660")
		}
		c.socketMode = fs.FileMode(n)
		return nil
	})
	set.DurationVar(&c.handoffTimeout, "handoff-timeout", 5*time.Second, "how long a handoff may take")

	set.IntVar(&c.maxConnections, "max-connections", 50000, "streams at a time; clients beyond get a 503")
	set.StringVar(&c.reject, "reject", "http",
		"answer past -max-connections: `http` (503) or sse (200 with an `overloaded` event: EventSource comes back)")
	set.DurationVar(&c.heartbeatInterval, "heartbeat-interval", 15*time.Second, "comment line on an idle stream; 0: none")
	set.DurationVar(&c.writeTimeout, "write-timeout", 30*time.Second, "a client that takes no byte for so long is closed")
	set.DurationVar(&c.maxStreamDuration, "max-stream-duration", 0, "end of every stream; 0: none")
	set.Int64Var(&c.maxPendingBytes, "max-pending-bytes", 256<<20,
		"`bytes` that may wait for all clients together; past it the slowest are evicted")

	set.StringVar(&c.backend, "backend", "demo", "what makes the events: `demo`")
	set.DurationVar(&c.demoDelay, "demo-delay", 50*time.Millisecond, "demo: time between events; 0: as fast as the client reads")
	set.IntVar(&c.demoMessages, "demo-messages", 0, "demo: send `N` equal events in place of the prompt; 0: off")

	set.IntVar(&c.loops, "loops", 0, "event loops; 0: choose (one for each four processors)")
	set.DurationVar(&c.shutdownTimeout, "shutdown-timeout", 2*time.Minute, "how long streams may go on after SIGTERM")
	set.StringVar(&c.metricsAddr, "metrics-addr", "127.0.0.1:9090", "`host:port` of /metrics and /healthz; empty: off")
	set.StringVar(&c.pprofAddr, "pprof-addr", "", "`host:port` of /debug/pprof; empty: off")
	set.Func("log-level", "lowest `level` that is logged: debug, info, warn, error (default info)", func(s string) error {
		if c.logLevel.UnmarshalText([]byte(s)) != nil {
			return fmt.Errorf("not one of debug, info, warn, error")
		}
		return nil
	})
	set.StringVar(&c.logFormat, "log-format", "text", "`format` of log lines: text or json")
	set.BoolVar(&c.version, "version", false, "print the version and exit")

	set.StringVar(&c.front, "front", "", "`host:port` of a page to try the daemon with, in place of Apache; empty: off")
	return set
}

// parseFlags reads the command line. flag.ErrHelp: the usage was printed to out. Other errors are one line.
func parseFlags(args []string, out io.Writer) (config, error) {
	var c config
	set := newFlagSet(&c)
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		printUsage(set, out)
		return c, err
	case err != nil:
		return c, fmt.Errorf("%w (-h lists the flags)", err)
	}
	if set.NArg() > 0 {
		return c, fmt.Errorf("unexpected argument %q: flags come as -name value; see -h", set.Arg(0))
	}
	return c, c.check()
}

// handoffSocket is one of the sockets that handoffs come in on.
type handoffSocket struct {
	flag, path string
	kind       fdrecv.Kind
}

// handoffSockets lists those that are on.
func (c *config) handoffSockets() []handoffSocket {
	return slices.DeleteFunc([]handoffSocket{
		{"-socket", c.socket, fdrecv.KindStream},
		{"-seqpacket-socket", c.seqpacketSocket, fdrecv.KindSeqpacket},
		{"-fdpass-socket", c.fdpassSocket, fdrecv.KindFDPass},
	}, func(s handoffSocket) bool { return s.path == "" })
}

// check refuses what cannot work, in one line that names the flag.
func (c *config) check() error {
	if len(c.handoffSockets()) == 0 {
		return fmt.Errorf("-socket, -seqpacket-socket and -fdpass-socket are all off: nothing could be handed over")
	}
	sockets := c.handoffSockets()
	for i, a := range sockets {
		for _, b := range sockets[i+1:] {
			if filepath.Clean(a.path) == filepath.Clean(b.path) {
				return fmt.Errorf("%s and %s have the same path %s: each needs its own", a.flag, b.flag, a.path)
			}
		}
	}
	if c.front != "" && c.socket == "" && c.seqpacketSocket == "" {
		return fmt.Errorf("-front needs -seqpacket-socket or -socket: mod_proxy_fdpass's kind has no payload")
	}
	for _, r := range []struct {
		flag     string
		ok       bool
		what     string
		gotValue any
	}{
		{"max-connections", c.maxConnections >= 1, "at least 1", c.maxConnections},
		{"max-pending-bytes", c.maxPendingBytes >= 1<<16, "at least 65536", c.maxPendingBytes},
		{"loops", c.loops >= 0 && c.loops <= 256, "0 to 256", c.loops},
		{"handoff-timeout", c.handoffTimeout > 0, "above 0", c.handoffTimeout},
		{"write-timeout", c.writeTimeout >= time.Millisecond, "at least 1ms", c.writeTimeout},
		{"max-stream-duration", c.maxStreamDuration >= 0, "0 or more", c.maxStreamDuration},
		{"heartbeat-interval", c.heartbeatInterval >= 0, "0 or more", c.heartbeatInterval},
		{"shutdown-timeout", c.shutdownTimeout >= 0, "0 or more", c.shutdownTimeout},
		{"demo-delay", c.demoDelay >= 0, "0 or more", c.demoDelay},
		{"demo-messages", c.demoMessages >= 0, "0 or more", c.demoMessages},
		{"backend", c.backend == "demo", "demo", c.backend},
		{"reject", c.reject == "http" || c.reject == "sse", "http or sse", c.reject},
		{"log-format", c.logFormat == "text" || c.logFormat == "json", "text or json", c.logFormat},
	} {
		if !r.ok {
			return fmt.Errorf("-%s is %v: it must be %s", r.flag, r.gotValue, r.what)
		}
	}
	return nil
}

// printUsage prints the flags in groups, with their defaults.
func printUsage(set *flag.FlagSet, out io.Writer) {
	fmt.Fprint(out, `streaming-daemon takes over HTTP clients from Apache (the socket comes over a Unix socket)
and streams Server-Sent Events to them.

usage: streaming-daemon [flags]
       streaming-daemon handoff [flags]   play Apache from a terminal; -h says more
`)
	for _, g := range flagGroups {
		fmt.Fprintf(out, "\n%s:\n", g.title)
		for _, name := range g.names {
			f := set.Lookup(name)
			placeholder, usage := flag.UnquoteUsage(f)
			fmt.Fprintf(out, "  -%s\n", strings.TrimSpace(name+" "+placeholder))
			if f.DefValue != "" && f.DefValue != "false" {
				usage += " (default " + f.DefValue + ")"
			}
			fmt.Fprintf(out, "        %s\n", usage)
		}
	}
}
