package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// options are the daemon's flags that mean something here.
type options struct {
	socket, seqpacket string
	delay             time.Duration // between events; 0: as fast as the client reads
	messages          int           // equal events per stream; 0: the prompt, word by word

	backend, base, model string
	insecure             bool // the upstream's certificate is not verified
	idle                 time.Duration
}

func main() {
	opts := parseFlags()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, opts); err != nil {
		fmt.Fprintln(os.Stderr, "goroutines:", err)
		os.Exit(1)
	}
}

func parseFlags() options {
	var opts options
	flag.StringVar(&opts.socket, "socket", "", "path of the SOCK_STREAM handoff socket; empty: none")
	flag.StringVar(&opts.seqpacket, "seqpacket-socket", "", "path of the SOCK_SEQPACKET handoff socket; empty: none")
	flag.DurationVar(&opts.delay, "demo-delay", 50*time.Millisecond, "time between two events")
	flag.IntVar(&opts.messages, "demo-messages", 0, "equal events per stream; 0: the prompt, word by word")
	flag.StringVar(&opts.backend, "backend", "demo", "demo or openai")
	flag.StringVar(&opts.base, "openai-base", "", "openai: the upstream's URL, up to and with /v1")
	flag.BoolVar(&opts.insecure, "openai-insecure-tls", false, "openai: do not verify the upstream's certificate")
	flag.DurationVar(&opts.idle, "openai-idle-conn-timeout", 30*time.Second, "openai: how long an idle connection is kept")
	flag.StringVar(&opts.model, "default-model", "m", "openai: the model")
	for _, name := range []string{"metrics-addr", "max-connections", "loops", "log-level"} {
		flag.String(name, "", "accepted and not used")
	}
	flag.Parse()
	return opts
}

// run serves until ctx ends. Streams that are open then are cut: this program is measured, not operated.
func run(ctx context.Context, opts options) error {
	play := func(client net.Conn, p payload) { stream(client, p, opts) }
	switch opts.backend {
	case "demo":
	case "openai":
		play = newRelayer(opts).relay
	default:
		return fmt.Errorf("-backend %s: demo or openai", opts.backend)
	}
	var serving sync.WaitGroup
	for network, path := range map[string]string{"unix": opts.socket, "unixpacket": opts.seqpacket} {
		if path == "" {
			continue
		}
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
		if err != nil {
			return err
		}
		context.AfterFunc(ctx, func() { _ = l.Close() }) // it unlinks the path, too
		serving.Go(func() { serve(l, play) })
	}
	serving.Wait()
	return nil
}

// serve accepts until the listener is closed.
func serve(l *net.UnixListener, play func(net.Conn, payload)) {
	for {
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		go func() {
			client, payload, err := receive(conn)
			if err != nil {
				return
			}
			defer func() { _ = client.Close() }()
			play(client, payload)
		}()
	}
}
