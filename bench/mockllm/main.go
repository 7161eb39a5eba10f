package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/mockllm/mock"
)

// options are the command line.
type options struct {
	mock mock.Config

	plain, secure, socket string // addresses; "": none
	cert, keyFile         string // paths
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "mockllm:", err)
		stop()
		os.Exit(1)
	}
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("mockllm", flag.ContinueOnError)
	s := &o.mock.Script
	flags.StringVar(&o.plain, "http", "", "`host:port` for HTTP/1.1 and HTTP/2 by prior knowledge; port 0: any")
	flags.StringVar(&o.secure, "https", "", "`host:port` for HTTP/2 and HTTP/1.1 over TLS")
	flags.StringVar(&o.socket, "unix", "", "`path` of a Unix socket for HTTP/1.1")
	flags.StringVar(&o.cert, "cert", "", "write the certificate to this `file`")
	flags.StringVar(&o.keyFile, "key-file", "", "`file` with the key that requests must have; empty: none")
	flags.IntVar(&o.mock.Streams, "h2-streams", 0, "HTTP/2 streams at a time on a connection (0: 250)")
	flags.BoolVar(&o.mock.NoH2, "no-h2", false, "HTTP/1.1 only")
	flags.StringVar(&s.Text, "text", "sentence", "what pieces are made of: sentence, words, surrogates, combining, lines, controls, quotes, scripts; echo: the prompt")
	flags.StringVar(&s.Escape, "escape", "utf8", "what the JSON escapes: utf8 (what it must), ascii (what is not), all")
	flags.IntVar(&s.Events, "events", 20, "pieces of text in a reply; negative: without end")
	flags.IntVar(&s.Bytes, "bytes", 0, "a piece is repeated until it has so many bytes")
	flags.TextVar(&s.First, "first", mock.Duration(0), "`time` until the first piece")
	flags.TextVar(&s.Delay, "delay", mock.Duration(0), "`time` between two pieces (0: as fast as the client reads)")
	script := flags.String("script", "", "`JSON` object with any of a script's settings; wins over the flags")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("no arguments are taken: %q", flags.Args())
	}
	if o.plain == "" && o.secure == "" && o.socket == "" {
		o.plain = "127.0.0.1:8000"
	}
	if *script != "" {
		d := json.NewDecoder(strings.NewReader(*script))
		d.DisallowUnknownFields()
		if err := d.Decode(s); err != nil {
			return o, fmt.Errorf("-script: %w", err)
		}
	}
	if o.keyFile != "" {
		key, err := os.ReadFile(o.keyFile)
		if err != nil {
			return o, err
		}
		o.mock.Key = strings.TrimSpace(string(key))
	}
	return o, nil
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	raiseFDLimit()
	s, err := mock.New(o.mock)
	if err != nil {
		return err
	}
	defer s.Close()
	if o.cert != "" {
		if err := os.WriteFile(o.cert, s.CertificatePEM(), 0o644); err != nil {
			return err
		}
	}
	for _, at := range []struct{ scheme, addr string }{{mock.Plain, o.plain}, {mock.Secure, o.secure}, {mock.Unix, o.socket}} {
		if at.addr == "" {
			continue
		}
		base, err := s.Listen(at.scheme, at.addr)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, base); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

// raiseFDLimit sets the limit on open files to what we may have: each stream over HTTP/1.1 takes one.
func raiseFDLimit() {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // the limit as it was is what we have, then
	}
}
