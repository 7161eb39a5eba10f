package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/report"
	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

// oneFlags are those of a single run.
type oneFlags struct {
	options scenario.Options

	path       string
	loops, pid int
	socket     string
	json, html string
}

const oneUsage = `usage: bench [flags] [-- extra flags of the daemon]
       bench compare [flags]
       bench relay [flags]

Plays one scenario (hold, churn, paced, slow, leave, storm) against the daemon, and prints what it measured.
The target: -daemon starts one, -pid attaches to one, -target floor or goroutines builds and starts that.

`

func parseOne(args []string) (f oneFlags, spec func(dir string) (target.Spec, error), err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	o := &f.options
	flags.StringVar(&o.Scenario, "scenario", "paced", "what to play")
	flags.IntVar(&o.Streams, "streams", 0, "clients in all (0: the scenario's own number)")
	flags.Float64Var(&o.Rate, "rate", 0, "clients opened per second (0: the scenario's own)")
	flags.IntVar(&o.Concurrency, "concurrency", 0, "churn: clients at the same time (0: 200)")
	flags.DurationVar(&o.Duration, "duration", 0, "of the part that is measured (0: the scenario's own)")
	flags.DurationVar(&o.Delay, "delay", 0, "between two events of a stream (0: the scenario's own; negative: none)")
	flags.IntVar(&o.Messages, "messages", 0, "events per stream (0: the scenario's own)")
	flags.BoolVar(&o.Prompt, "prompt", false, "streams repeat a prompt of their own, so that the order of events is checked")
	flags.TextVar(&o.Client, "client", load.TCP, "`type` of the client sockets: tcp, or pair for socket pairs")
	flags.TextVar(&o.SocketType, "socket-type", load.Seqpacket, "`type` of the handoff socket: seqpacket or stream")
	flags.IntVar(&o.PayloadBytes, "payload-bytes", 0, "size of the handoff's JSON (0: small)")
	flags.Float64Var(&o.SlowShare, "slow", 0, "share of clients that read slowly or not at all, 0 to 1")
	flags.Float64Var(&o.LeaveShare, "leave", 0, "share of clients that leave at a random point, 0 to 1")
	flags.IntVar(&o.Workers, "workers", 0, "loops of the harness; each opens, hands over and reads (0: half of the CPUs)")
	flags.Uint64Var(&o.Seed, "seed", 1, "of everything random")
	flags.StringVar(&f.path, "daemon", "", "executable of the daemon to start")
	kind := flags.String("target", "", "instead of -daemon: floor or goroutines, built on the spot")
	flags.IntVar(&f.loops, "loops", 0, "-loops of the target (0: its own choice)")
	flags.IntVar(&f.pid, "pid", 0, "attach to this process; give -socket, and -delay and -messages as it was started with")
	flags.StringVar(&f.socket, "socket", "", "with -pid: the path of its handoff socket")
	flags.StringVar(&f.json, "json", "", "write the result to this file")
	flags.StringVar(&f.html, "report", "", "write a page with charts to this file")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), oneUsage)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return f, nil, err
	}
	if *o, err = o.WithDefaults(); err != nil {
		return f, nil, err
	}
	spec, err = chooseTarget(f, *kind, flags.Args())
	return f, spec, err
}

// chooseTarget is nil, nil for an attached one.
func chooseTarget(f oneFlags, kind string, extra []string) (func(dir string) (target.Spec, error), error) {
	given := 0
	for _, is := range []bool{f.path != "", kind != "", f.pid != 0} {
		if is {
			given++
		}
	}
	if given != 1 {
		return nil, errors.New("give one of -daemon, -target and -pid; -h says more")
	}
	switch {
	case f.pid != 0 && f.socket == "":
		return nil, errors.New("-pid needs -socket")
	case f.pid != 0:
		return nil, nil
	case f.path != "":
		return func(string) (target.Spec, error) {
			return target.Spec{Name: "daemon", Path: f.path, Loops: f.loops, Args: extra}, nil
		}, nil
	}
	build, ok := map[string]func(dir string) (target.Spec, error){
		"floor":      func(dir string) (target.Spec, error) { return target.BuildFloor(dir, floorSource) },
		"goroutines": target.BuildGoroutines,
	}[kind]
	if !ok {
		return nil, fmt.Errorf("-target %s: floor or goroutines", kind)
	}
	return func(dir string) (target.Spec, error) {
		spec, err := build(dir)
		spec.Loops, spec.Args = f.loops, extra
		return spec, err
	}, nil
}

// runOne plays one scenario.
func runOne(ctx context.Context, args []string) (err error) {
	f, spec, err := parseOne(args)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p, err := startTarget(ctx, f, spec, dir)
	if err != nil {
		return err
	}
	bar := newBar(os.Stderr)
	result, err := scenario.Run(ctx, f.options, p, bar.show)
	bar.end()
	err = errors.Join(err, p.Stop())
	if result == nil {
		return err
	}
	result.Loops = f.loops
	page := report.Page{Title: f.options.Scenario + " against " + result.Target, Machine: report.ThisMachine(),
		Command: report.CommandLine(os.Args), Date: time.Now(), Results: []*scenario.Result{result}}
	report.Table(os.Stdout, result)
	if f.json != "" {
		err = errors.Join(err, report.WriteJSON(f.json, page))
	}
	if f.html != "" {
		err = errors.Join(err, report.WriteHTML(f.html, page))
	}
	if err == nil && result.Failed() {
		err = errors.New("not every stream was what it should be, or descriptors were left; see above")
	}
	return err
}

func startTarget(ctx context.Context, f oneFlags, spec func(dir string) (target.Spec, error), dir string) (*target.Process, error) {
	if spec == nil {
		return target.Attach(f.pid, f.socket, f.socket)
	}
	s, err := spec(dir)
	if err != nil {
		return nil, err
	}
	return target.Start(ctx, s, dir, f.options.Demo())
}
