package compare

import (
	"slices"

	"streaming-daemon-go/bench/scenario"
)

// Metric is one figure of a run. Less is better in all but Streams per second.
type Metric struct {
	Stage string
	Name  string
	Unit  string
	Of    func(*scenario.Result) float64
}

// Metrics are what a comparison shows, in order.
var Metrics = []Metric{
	{"paced", "CPU per event", "µs", func(r *scenario.Result) float64 { return micros(r.Window.PerEvent().Nanoseconds()) }},
	{"paced", "lateness p50", "ms", func(r *scenario.Result) float64 { return float64(r.Lateness.P50) / 1e3 }},
	{"paced", "lateness p99", "ms", func(r *scenario.Result) float64 { return float64(r.Lateness.P99) / 1e3 }},
	{"paced", "first byte p99", "ms", func(r *scenario.Result) float64 { return float64(r.FirstByte.P99) / 1e3 }},
	{"paced", "memory per stream", "B", func(r *scenario.Result) float64 { return r.Memory.PerStream() }},
	{"paced", "kernel memory per stream, both ends", "B", func(r *scenario.Result) float64 { return r.Memory.KernelPerStream() }},
	{"churn", "CPU per stream", "µs", func(r *scenario.Result) float64 { return micros(r.Window.PerStream().Nanoseconds()) }},
	{"churn", "first byte p99", "ms", func(r *scenario.Result) float64 { return float64(r.FirstByte.P99) / 1e3 }},
	{"churn", "streams per second", "/s", func(r *scenario.Result) float64 { return float64(r.Window.Streams) / r.Window.Length.Seconds() }},
	{"storm", "memory per stream", "B", func(r *scenario.Result) float64 { return r.Memory.PerStream() }},
	{"storm", "memory per stream when all have left", "B", func(r *scenario.Result) float64 { return r.Memory.AfterPerStream() }},
	{"storm", "until the last first byte", "ms", func(r *scenario.Result) float64 { return micros(r.Window.Length.Nanoseconds()) / 1e3 }},
	{"slow", "lateness p99 of readers", "ms", func(r *scenario.Result) float64 { return float64(r.Lateness.P99) / 1e3 }},
	{"slow", "the same without slow clients", "ms", func(r *scenario.Result) float64 { return float64(r.Alone.Lateness.P99) / 1e3 }},
}

func micros(ns int64) float64 { return float64(ns) / 1e3 }

// Values are one metric of one contestant, a value for each round.
type Values struct {
	Contestant string
	ByRound    map[int]float64
}

// Median is 0 when there is nothing.
func (v Values) Median() float64 {
	all := make([]float64, 0, len(v.ByRound))
	for _, x := range v.ByRound {
		all = append(all, x)
	}
	return median(all)
}

// Least and Most are the ends of the spread.
func (v Values) Least() float64 { return v.extreme(func(a, b float64) bool { return a < b }) }

// Most is the largest value.
func (v Values) Most() float64 { return v.extreme(func(a, b float64) bool { return a > b }) }

func (v Values) extreme(before func(a, b float64) bool) (found float64) {
	first := true
	for _, x := range v.ByRound {
		if first || before(x, found) {
			found, first = x, false
		}
	}
	return found
}

// RatioTo is the median of the ratios within each round; ok is false when no round has both.
func (v Values) RatioTo(o Values) (ratio float64, ok bool) {
	var ratios []float64
	for round, x := range v.ByRound {
		if y := o.ByRound[round]; y > 0 {
			ratios = append(ratios, x/y)
		}
	}
	return median(ratios), len(ratios) > 0
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	middle := len(all) / 2
	if len(all)%2 == 1 {
		return all[middle]
	}
	return (all[middle-1] + all[middle]) / 2
}

// Collect gives the values of one metric for each contestant that has any, in the order of names.
func Collect(runs []Run, names []string, m Metric) []Values {
	return collect(runs, names, m.Of, func(r Run) bool { return r.Stage == m.Stage })
}

func collect(runs []Run, names []string, of func(*scenario.Result) float64, take func(Run) bool) []Values {
	var all []Values
	for _, name := range names {
		v := Values{Contestant: name, ByRound: map[int]float64{}}
		for _, r := range runs {
			if r.Contestant == name && take(r) {
				v.ByRound[r.Round] = of(r.Result)
			}
		}
		if len(v.ByRound) > 0 {
			all = append(all, v)
		}
	}
	return all
}

// named gives the values of one contestant; an empty one when it has none.
func named(all []Values, name string) Values {
	for _, v := range all {
		if v.Contestant == name {
			return v
		}
	}
	return Values{Contestant: name}
}

// Ladder gives the medians of a figure of paced runs: by contestant, then by number of streams, from the ladder.
func Ladder(runs []Run, name string, sizes []int, of func(*scenario.Result) float64) [][2]float64 {
	var points [][2]float64
	for _, n := range sizes {
		all := collect(runs, []string{name}, of, func(r Run) bool { return r.Stage == "ladder" && r.Result.Options.Streams == n })
		if len(all) > 0 {
			points = append(points, [2]float64{float64(n), all[0].Median()})
		}
	}
	return points
}
