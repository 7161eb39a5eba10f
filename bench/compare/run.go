package compare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

// Config says what to compare.
type Config struct {
	Contestants []target.Spec // with names that differ
	Daemon      string        // the name of the one that slow is played against
	Rounds      int
	Streams     int // of paced, storm
	Concurrency int // of churn
	Ladder      []int
	LadderEach  int // rounds of the ladder
	Duration    time.Duration
	Rate        float64 // clients opened per second
}

// Run is one scenario against one contestant.
type Run struct {
	Stage      string           `json:"stage"` // paced, churn, storm, slow or ladder
	Round      int              `json:"round"`
	Contestant string           `json:"contestant"`
	Result     *scenario.Result `json:"result"`
}

// stage is one scenario of a round.
type stage struct {
	name    string
	options scenario.Options
	only    string // the one contestant that plays; empty: all
}

// Play runs everything and calls done after each run. On an error what is done so far is given with it.
func Play(ctx context.Context, c Config, progress func(scenario.Progress), done func(Run, int, int)) ([]Run, error) {
	var runs []Run
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	plan := c.plan()
	for i, next := range plan {
		result, err := one(ctx, next.spec, next.stage.options, dir, progress)
		if err != nil {
			return runs, fmt.Errorf("compare: %s against %s, round %d: %w", next.stage.name, next.spec.Name, next.round, err)
		}
		r := Run{Stage: next.stage.name, Round: next.round, Contestant: next.spec.Name, Result: result}
		runs = append(runs, r)
		done(r, i+1, len(plan))
	}
	return runs, nil
}

// turn is one run to be made.
type turn struct {
	round int
	stage stage
	spec  target.Spec
}

// plan lists all runs in order: a round after the other, and within it each stage with all contestants in a row, in
// an order that moves on by one each round.
func (c Config) plan() []turn {
	var turns []turn
	for round := range max(c.Rounds, c.LadderEach) {
		for _, s := range c.stages(round) {
			for i := range c.Contestants {
				spec := c.Contestants[(round+i)%len(c.Contestants)]
				if s.only == "" || s.only == spec.Name {
					turns = append(turns, turn{round + 1, s, spec})
				}
			}
		}
	}
	return turns
}

func (c Config) stages(round int) []stage {
	var stages []stage
	if round < c.Rounds {
		stages = append(stages,
			stage{name: "paced", options: scenario.Options{Scenario: "paced", Streams: c.Streams, Rate: c.Rate, Duration: c.Duration}},
			stage{name: "churn", options: scenario.Options{Scenario: "churn", Concurrency: c.Concurrency, Duration: c.Duration}},
			stage{name: "storm", options: scenario.Options{Scenario: "storm", Streams: c.Streams}},
			stage{name: "slow", options: scenario.Options{Scenario: "slow", Duration: c.Duration}, only: c.Daemon},
		)
	}
	if round < c.LadderEach {
		for _, n := range c.Ladder {
			stages = append(stages, stage{name: "ladder", options: scenario.Options{Scenario: "paced", Streams: n, Rate: c.Rate, Duration: c.Duration}})
		}
	}
	return stages
}

// one starts the contestant, plays, and stops it.
func one(ctx context.Context, spec target.Spec, o scenario.Options, dir string, progress func(scenario.Progress)) (*scenario.Result, error) {
	o, err := o.WithDefaults()
	if err != nil {
		return nil, err
	}
	p, err := target.Start(ctx, spec, dir, o.Demo())
	if err != nil {
		return nil, err
	}
	result, err := scenario.Run(ctx, o, p, progress)
	if err = errors.Join(err, p.Stop()); err != nil {
		return nil, err
	}
	result.Loops = spec.Loops
	result.Series = nil // thousands of points that no report of a comparison shows
	return result, nil
}

// Syscalls counts the syscalls of whole streams of 19 events under strace: the calls of a run with streams clients,
// less those of a run with none, per stream.
func Syscalls(ctx context.Context, spec target.Spec, socketType load.SocketType, streams int) (map[string]float64, error) {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	per := map[string]float64{}
	for _, n := range []int{streams, 0} {
		counts := dir + "/strace"
		traced, err := target.UnderStrace(spec, counts)
		if err != nil {
			return nil, err
		}
		o := scenario.Options{Scenario: "leave", Streams: max(n, 1), Rate: 100, Messages: 19, Delay: 20 * time.Millisecond,
			LeaveShare: 1e-9, SocketType: socketType}
		if o, err = o.WithDefaults(); err != nil {
			return nil, err
		}
		p, err := target.Start(ctx, traced, dir, o.Demo())
		if err != nil {
			return nil, err
		}
		if n > 0 {
			_, err = scenario.Run(ctx, o, p, nil)
		}
		if err = errors.Join(err, p.Stop()); err != nil {
			return nil, err
		}
		calls, err := target.Syscalls(counts)
		if err != nil {
			return nil, err
		}
		for name, count := range calls {
			if n > 0 {
				per[name] += float64(count) / float64(streams)
			} else {
				per[name] -= float64(count) / float64(streams)
			}
		}
	}
	return per, nil
}
