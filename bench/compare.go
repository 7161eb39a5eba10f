package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/bench/compare"
	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/report"
	"streaming-daemon-go/bench/target"
)

// compareFlags are those of a comparison.
type compareFlags struct {
	config  compare.Config
	daemon  string
	loops   string
	ladder  string
	out     string
	results string
	html    string
	from    string
}

func parseCompare(args []string) (f compareFlags, err error) {
	flags := flag.NewFlagSet("bench compare", flag.ContinueOnError)
	c := &f.config
	flags.StringVar(&f.daemon, "daemon", "", "executable of the daemon (empty: built on the spot; none: without it)")
	flags.StringVar(&f.loops, "loops", "1,2,0", "one contestant for each -loops of the daemon; 0 is its default")
	flags.IntVar(&c.Rounds, "rounds", 5, "how often each scenario is played against each contestant")
	flags.IntVar(&c.Streams, "streams", 18000, "of paced and storm")
	flags.IntVar(&c.Concurrency, "concurrency", 200, "of churn")
	flags.Float64Var(&c.Rate, "rate", 3000, "clients opened per second")
	flags.StringVar(&f.ladder, "ladder", "1000,2000,5000,10000,18000", "numbers of streams for the ladder; empty: none")
	flags.IntVar(&c.LadderEach, "ladder-rounds", 3, "rounds of the ladder")
	flags.DurationVar(&c.Duration, "duration", 8*time.Second, "of the measured part of a run")
	flags.StringVar(&f.out, "out", "bench/RESULTS.md", "the document to write")
	flags.StringVar(&f.results, "results", "bench/results", "directory for the charts and the raw figures")
	flags.StringVar(&f.html, "report", "", "write a page with all charts to this file")
	flags.StringVar(&f.from, "from", "", "measure nothing: write document and charts anew from these raw figures")
	flags.Usage = func() {
		fmt.Fprint(flags.Output(), "usage: bench compare [flags]\n\nPlays the scenarios against the daemon, the bare loop in C and the goroutine design in turns, and writes what came out.\n\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return f, err
	}
	for field := range strings.SplitSeq(f.ladder, ",") {
		if field == "" {
			continue
		}
		n, err := strconv.Atoi(field)
		if err != nil {
			return f, fmt.Errorf("-ladder %s: %w", f.ladder, err)
		}
		c.Ladder = append(c.Ladder, n)
	}
	return f, nil
}

// contestants builds them all into dir.
func (f *compareFlags) contestants(dir string) error {
	floor, err := target.BuildFloor(dir, floorSource)
	switch {
	case errors.Is(err, target.ErrNoCompiler):
		fmt.Fprintln(os.Stderr, "bench:", err)
	case err != nil:
		return err
	default:
		f.config.Contestants = append(f.config.Contestants, floor)
	}
	goroutines, err := target.BuildGoroutines(dir)
	if err != nil {
		return err
	}
	f.config.Contestants = append(f.config.Contestants, goroutines)
	if f.daemon == "none" {
		return nil
	}
	daemon := target.Spec{Path: f.daemon}
	if f.daemon == "" {
		if daemon, err = target.BuildDaemon(dir); err != nil {
			return err
		}
	}
	for field := range strings.SplitSeq(f.loops, ",") {
		n, err := strconv.Atoi(field)
		if err != nil {
			return fmt.Errorf("-loops %s: %w", f.loops, err)
		}
		daemon.Loops, daemon.Name = n, "daemon-"+field
		if n == 0 {
			daemon.Name = "daemon"
		}
		f.config.Contestants = append(f.config.Contestants, daemon)
		f.config.Daemon = daemon.Name // the last one, unless the default is among them
	}
	if slices.ContainsFunc(f.config.Contestants, func(s target.Spec) bool { return s.Name == "daemon" }) {
		f.config.Daemon = "daemon"
	}
	return nil
}

func runCompare(ctx context.Context, args []string) error {
	f, err := parseCompare(args)
	if err != nil {
		return err
	}
	if f.from != "" {
		r, err := readComparison(f.from)
		if err != nil {
			return err
		}
		return writeComparison(f, r)
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := f.contestants(dir); err != nil {
		return err
	}
	r := &compare.Report{Machine: report.ThisMachine(), Command: report.CommandLine(os.Args), Date: time.Now(), Config: f.config}
	b := newBar(os.Stderr)
	r.Runs, err = compare.Play(ctx, f.config, b.showOnTerminal, func(run compare.Run, n, of int) {
		b.end()
		fmt.Fprintf(os.Stderr, "%3d/%d  round %d  %-6s %6d  %-11s  %s\n", n, of, run.Round, run.Stage,
			max(run.Result.Options.Streams, run.Result.Options.Concurrency), run.Contestant, headline(run))
	})
	b.end()
	if err == nil {
		r.Syscalls, err = countSyscalls(ctx, f.config)
	}
	if len(r.Runs) == 0 {
		return err
	}
	return errors.Join(err, writeComparison(f, r)) // what was measured before an error is worth keeping
}

// headline is the one figure of a run for the progress of a comparison.
func headline(run compare.Run) string {
	w, r := run.Result.Window, run.Result
	switch run.Stage {
	case "churn":
		return fmt.Sprintf("%.1f µs per stream", float64(w.PerStream())/1e3)
	case "storm":
		return fmt.Sprintf("%.0f bytes per stream, %.0f after", r.Memory.PerStream(), r.Memory.AfterPerStream())
	default:
		return fmt.Sprintf("%.2f µs per event, %.0f bytes per stream", float64(w.PerEvent())/1e3, r.Memory.PerStream())
	}
}

// countSyscalls is empty where there is no strace.
func countSyscalls(ctx context.Context, c compare.Config) (map[string]map[string]float64, error) {
	all := map[string]map[string]float64{}
	for _, spec := range c.Contestants {
		calls, err := compare.Syscalls(ctx, spec, load.Seqpacket, 200)
		if errors.Is(err, target.ErrNoStrace) {
			fmt.Fprintln(os.Stderr, "bench:", err)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		all[spec.Name] = calls
	}
	return all, nil
}

func readComparison(path string) (*compare.Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &compare.Report{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

func writeComparison(f compareFlags, r *compare.Report) error {
	if err := os.MkdirAll(f.results, 0o755); err != nil {
		return err
	}
	var pictures []string
	charts := r.Charts()
	var shown []string
	for _, name := range []string{"overview.svg", "ladder-cpu.svg", "ladder-memory.svg", "lateness.svg", "first-byte.svg"} {
		if charts[name] == "" {
			continue
		}
		shown = append(shown, charts[name])
		path := filepath.Join(f.results, name)
		if err := os.WriteFile(path, []byte(charts[name]), 0o644); err != nil {
			return err
		}
		from, err := filepath.Rel(filepath.Dir(f.out), path)
		if err != nil {
			from = path
		}
		pictures = append(pictures, filepath.ToSlash(from))
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(f.results, "compare.json"), append(raw, '\n'), 0o644); err != nil {
		return err
	}
	if f.html != "" {
		err = report.WriteHTML(f.html, report.Page{Title: "The daemon, a bare epoll loop and a goroutine per client",
			Machine: r.Machine, Command: r.Command, Date: r.Date, Charts: shown, Judged: r.Judged()})
	}
	return errors.Join(err, os.WriteFile(f.out, []byte(r.Markdown(pictures)), 0o644))
}
