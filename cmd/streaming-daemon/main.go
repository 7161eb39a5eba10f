package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"streaming-daemon-go/cmd/streaming-daemon/config"
)

// Exit codes.
const (
	exitOK      = 0 // every stream ended by itself
	exitFailed  = 1 // it could not start, or streams were cut at the end of the drain
	exitBadArgs = 2 // as package flag does
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main without the process: args are those behind the program's name.
func run(args []string, stdout, stderr *os.File) int {
	if len(args) > 0 {
		switch args[0] {
		case "handoff":
			return runHandoff(args[1:], stdout, stderr)
		case "check-config":
			return runCheckConfig(args[1:], stdout, stderr)
		case "config":
			return runConfig(args[1:], stdout, stderr)
		}
	}
	cfg, code, done := loadConfig(args, stdout, stderr)
	if done {
		return code
	}
	lines := newLineWriter(stderr)
	defer lines.close()
	log, logging := newLogger(lines, cfg.LogLevel, cfg.LogFormat)
	slog.SetDefault(log)
	for _, w := range cfg.Warnings {
		log.Warn(w)
	}
	// Go's default for a broken stdout or stderr is to die of SIGPIPE: a restart of journald must not end the streams.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)

	d, err := start(cfg, logging, log)
	if err != nil {
		log.Error("cannot start: " + err.Error())
		return exitFailed
	}
	d.reread = func() (*config.Config, error) { return config.Load(args, os.Environ()) }
	return d.serve(signals)
}

// subcommandFlags is a flag set of a subcommand with its synopsis.
func subcommandFlags(name, synopsis string, out io.Writer) *flag.FlagSet {
	set := flag.NewFlagSet("streaming-daemon "+name, flag.ContinueOnError)
	set.SetOutput(out)
	set.Usage = func() {
		fmt.Fprintf(out, "%s\n\nusage: streaming-daemon %s [flags]\n\n", synopsis, name)
		set.PrintDefaults()
	}
	return set
}
