package report

import (
	"math"

	"streaming-daemon-go/bench/scenario"
)

// tailTicks are the percentiles with a label.
var tailTicks = []Tick{tailTick(0, "0"), tailTick(50, "50"), tailTick(90, "90"), tailTick(99, "99"), tailTick(99.9, "99.9"), tailTick(99.99, "99.99")}

func tailTick(p float64, label string) Tick { return Tick{tailPlace(p), label} }

// tailPlace stretches the tail: each factor of ten towards 100 is as wide as the one before.
func tailPlace(percentile float64) float64 {
	return -math.Log10(1 - min(percentile, 99.99)/100)
}

// latencyChart is latency over percentile for each distribution of r.
func latencyChart(r *scenario.Result) Chart {
	c := LatencyChart("Latency by percentile")
	for _, n := range spreads(r) {
		c.Lines = append(c.Lines, LatencyLine(shortNames[n.name], "", n.spread.Curve))
	}
	return c
}

// LatencyChart is an empty chart of latency over percentile, to be given LatencyLines.
func LatencyChart(title string) Chart {
	return Chart{Title: title, XTitle: "percentile", XTicks: tailTicks, YLog: true,
		YLabel: func(us float64) string { return micros(int64(us)) }}
}

// LatencyLine is a line of a LatencyChart. curve is a Spread's: microseconds at scenario.CurvePercentiles, or nil.
func LatencyLine(name, colour string, curve []int64) Line {
	l := Line{Name: name, Colour: colour}
	for i, us := range curve {
		if p := scenario.CurvePercentiles[i]; p <= 99.99 { // the last one is the maximum, which has no place on this axis
			l.Points = append(l.Points, [2]float64{tailPlace(p), float64(max(us, 1))})
		}
	}
	return l
}

// shortNames fit into a legend.
var shortNames = map[string]string{
	"handoff (sender)": "handoff", "time to first byte": "first byte", "lateness of events": "lateness",
	"gap between events": "gap", "whole stream": "stream", "lateness, no slow clients": "lateness alone",
	"gap, no slow clients": "gap alone",
}

// cpuChart is the CPU share of target and harness over time.
func cpuChart(r *scenario.Result) Chart {
	target, harness := Line{Name: "target"}, Line{Name: "harness"}
	steps(r, func(at, seconds float64, a, b scenario.Moment) {
		target.Points = append(target.Points, [2]float64{at, 100 * (b.CPU - a.CPU).Seconds() / seconds})
		harness.Points = append(harness.Points, [2]float64{at, 100 * (b.Harness - a.Harness).Seconds() / seconds})
	})
	return chartOf("CPU over time", "seconds", "percent of one CPU", target, harness)
}

// eventsChart is the throughput over time.
func eventsChart(r *scenario.Result) Chart {
	events := Line{Name: "events per second", Colour: palette[2]}
	steps(r, func(at, seconds float64, a, b scenario.Moment) {
		if b.Events >= a.Events { // else: another fleet began
			events.Points = append(events.Points, [2]float64{at, float64(b.Events-a.Events) / seconds})
		}
	})
	return chartOf("Events read by the clients", "seconds", "", events)
}

// memoryChart is the target's memory against the number of open streams, while they are opened.
func memoryChart(r *scenario.Result) Chart {
	l := Line{Name: "RSS", Colour: palette[3]}
	most := uint64(0)
	for _, m := range r.Series {
		if m.Live > most || len(l.Points) == 0 {
			most = max(most, m.Live)
			l.Points = append(l.Points, [2]float64{float64(m.Live), float64(m.RSS) / (1 << 20)})
		}
	}
	if len(l.Points) < 3 {
		return Chart{}
	}
	return chartOf("Memory against open streams", "open streams", "MB", l)
}

func chartOf(title, x, y string, lines ...Line) Chart {
	if len(lines[0].Points) < 2 {
		return Chart{}
	}
	return Chart{Title: title, XTitle: x, YTitle: y, Lines: lines}
}

// steps calls f for each pair of moments that follow each other.
func steps(r *scenario.Result, f func(at, seconds float64, a, b scenario.Moment)) {
	for i := 1; i < len(r.Series); i++ {
		a, b := r.Series[i-1], r.Series[i]
		if seconds := (b.At - a.At).Seconds(); seconds > 0 {
			f(b.At.Seconds(), seconds, a, b)
		}
	}
}
