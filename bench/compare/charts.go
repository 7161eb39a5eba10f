package compare

import (
	"fmt"

	"streaming-daemon-go/bench/report"
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

// Charts gives the pictures of a report by file name: an overview in bars, and the ladder.
func (r *Report) Charts() map[string]string {
	s := r.summary()
	charts := map[string]string{"overview.svg": report.BarsSVG("The same streams, side by side", s.overview(r))}
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
