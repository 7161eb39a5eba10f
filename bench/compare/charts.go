package compare

import (
	"fmt"

	"streaming-daemon-go/bench/report"
	"streaming-daemon-go/bench/scenario"
)

// colours tell the contestants apart in every chart.
func colour(name string) string {
	switch name {
	case floorName:
		return "#8a9099"
	case goroutinesName:
		return "#e69f00"
	case "daemon":
		return "#0072b2"
	case "daemon-1":
		return "#56b4e9"
	default:
		return "#009e73"
	}
}

// Charts gives the pictures of a report by file name: an overview in bars, latencies, and the ladder.
func (r *Report) Charts() map[string]string {
	s := r.summary()
	charts := map[string]string{"overview.svg": report.BarsSVG("The same streams, side by side", s.overview(r))}
	for file, l := range map[string]struct {
		stage, title string
		of           func(*scenario.Result) scenario.Spread
	}{
		"lateness.svg":   {"paced", "Lateness of events, paced", func(r *scenario.Result) scenario.Spread { return r.Lateness }},
		"first-byte.svg": {"churn", "Time to first byte, churn", func(r *scenario.Result) scenario.Spread { return r.FirstByte }},
	} {
		c := report.LatencyChart(l.title)
		for _, name := range s.names {
			if curve := s.curve(l.stage, name, l.of); curve != nil {
				c.Lines = append(c.Lines, report.LatencyLine(name, colour(name), curve))
			}
		}
		if len(c.Lines) > 0 {
			charts[file] = c.SVG()
		}
	}
	for i, m := range ladderFigures {
		c := report.Chart{Title: m.short + " against open streams", XTitle: "open streams", YTitle: m.unit, Points: true, YLog: m.log}
		for _, name := range s.names {
			if points := Ladder(r.Runs, name, r.Config.Ladder, m.of); len(points) > 0 {
				c.Lines = append(c.Lines, report.Line{Name: name, Colour: colour(name), Points: points})
			}
		}
		if len(c.Lines) > 0 {
			charts[[]string{"ladder-cpu.svg", "ladder-memory.svg"}[i]] = c.SVG()
		}
	}
	return charts
}

// curve is the distribution of a contestant: at each percentile the median of the rounds. nil: it has none.
func (s *summary) curve(stage, name string, of func(*scenario.Result) scenario.Spread) []int64 {
	var curve []int64
	for i := range scenario.CurvePercentiles {
		var rounds []float64
		for _, r := range s.runs {
			if c := of(r.Result).Curve; r.Stage == stage && r.Contestant == name && i < len(c) {
				rounds = append(rounds, float64(c[i]))
			}
		}
		if len(rounds) == 0 {
			return nil
		}
		curve = append(curve, int64(median(rounds)))
	}
	return curve
}

func (s *summary) overview(r *Report) []report.Bars {
	var groups []report.Bars
	for _, g := range []struct{ stage, name, unit, title string }{
		{"paced", "CPU per event", "µs", fmt.Sprintf("CPU per event, %d streams with an event per second each", r.Config.Streams)},
		{"paced", "memory per stream", "bytes", fmt.Sprintf("Memory per open stream, %d streams", r.Config.Streams)},
		{"churn", "CPU per stream", "µs", "CPU for a whole stream of 19 events, handoff to close"},
	} {
		bars := report.Bars{Title: g.title}
		for _, v := range s.values(g.stage, g.name) {
			bars.Bars = append(bars.Bars, report.Bar{Name: v.Contestant, Value: v.Median(),
				Label: figure(v.Median()) + " " + g.unit, Colour: colour(v.Contestant)})
		}
		if len(bars.Bars) > 0 {
			groups = append(groups, bars)
		}
	}
	return groups
}
