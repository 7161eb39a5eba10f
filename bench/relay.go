package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"streaming-daemon-go/bench/relay"
	"streaming-daemon-go/bench/report"
	"streaming-daemon-go/bench/target"
)

// relayFlags are those of `bench relay`.
type relayFlags struct {
	config relay.Config

	daemon string // path; "": built
	alone  bool
	json   string
}

// relayRaw is what -json writes: all that is needed to make the table again.
type relayRaw struct {
	Machine report.Machine `json:"machine"`
	Command string         `json:"command"`
	Date    time.Time      `json:"date"`
	Judged  [][4]string    `json:"judged"`
	Runs    []relay.Run    `json:"runs"`
}

const relayUsage = `usage: bench relay [flags] [-- extra flags of the daemon]

Relays chat completion streams from bench/mockllm through the daemon and through the same relay made of net/http, in
turns: an event a second each, all checked to the byte. Prints CPU per event, memory per stream, goroutines, how soon
the upstream hears of clients that leave, and the bars.

`

func parseRelay(args []string) (f relayFlags, err error) {
	flags := flag.NewFlagSet("bench relay", flag.ContinueOnError)
	c := &f.config
	c.Streams, c.Goroutined, c.CancelTries = map[relay.Transport]int{}, true, true
	h2 := flags.Int("h2", 10_000, "`streams` over HTTP/2 with TLS; 0: none")
	h1 := flags.Int("h1", 9_000, "`streams` over HTTP/1.1, two descriptors of the target each; 0: none")
	flags.IntVar(&c.Rounds, "rounds", 1, "how often everything is done")
	flags.DurationVar(&c.Duration, "duration", 15*time.Second, "of the part that is measured")
	flags.DurationVar(&c.Delay, "delay", time.Second, "between two events of a stream")
	flags.Float64Var(&c.Rate, "rate", 1500, "clients opened per second")
	flags.IntVar(&c.Workers, "workers", 0, "loops of the harness (0: half of the CPUs)")
	flags.StringVar(&f.daemon, "daemon", "", "executable of the daemon (empty: built on the spot)")
	flags.IntVar(&c.Daemon.Loops, "loops", 0, "-loops of the daemon (0: its own choice)")
	flags.BoolVar(&f.alone, "alone", false, "without the comparison")
	flags.StringVar(&f.json, "json", "", "write the raw figures to this file")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), relayUsage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return f, err
	}
	if c.Rounds < 1 || c.Duration <= 0 || c.Delay <= 0 || c.Rate <= 0 {
		return f, errors.New("-rounds, -duration, -delay and -rate must be above 0")
	}
	c.Streams[relay.H2], c.Streams[relay.H1] = *h2, *h1
	c.Daemon.Args = flags.Args()
	return f, nil
}

// build makes the programs.
func (f *relayFlags) build(dir string) (err error) {
	c := &f.config
	if c.Mock, err = target.BuildMock(dir); err != nil {
		return err
	}
	if !f.alone {
		if c.Goroutines, err = target.BuildGoroutines(dir); err != nil {
			return err
		}
	}
	c.Daemon.Name, c.Daemon.Path = relay.DaemonName, f.daemon
	if f.daemon == "" {
		built, err := target.BuildDaemon(dir)
		if err != nil {
			return err
		}
		c.Daemon.Path = built.Path
	}
	return nil
}

func runRelay(ctx context.Context, args []string) error {
	f, err := parseRelay(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := f.build(dir); err != nil {
		return err
	}
	b := newBar(os.Stderr)
	runs, err := relay.Play(ctx, f.config, b.showOnTerminal, func(r relay.Run) {
		b.end()
		fmt.Fprintf(os.Stderr, "round %d  %s  %-10s  %d of %d streams whole, %.2f µs per event, %.0f bytes per stream\n", r.Round, r.Transport,
			r.Contestant, r.Result.Clients.Finished, r.Result.Options.Streams, float64(r.Result.Window.PerEvent())/1e3, r.Result.Memory.PerStream())
	})
	b.end()
	if len(runs) == 0 {
		return err
	}
	fmt.Println()
	relay.Table(os.Stdout, runs)
	if f.json != "" {
		raw, jsonErr := json.MarshalIndent(relayRaw{report.ThisMachine(), report.CommandLine(os.Args), time.Now(), relay.Judged(runs), runs}, "", " ")
		if jsonErr == nil {
			jsonErr = os.WriteFile(f.json, append(raw, '\n'), 0o644)
		}
		err = errors.Join(err, jsonErr)
	}
	for _, r := range runs {
		if r.Failed() {
			err = errors.Join(err, fmt.Errorf("round %d, %s over %s: not every stream was what it should be, or descriptors were left", r.Round, r.Contestant, r.Transport))
		}
	}
	return err
}
