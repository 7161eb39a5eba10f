package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"streaming-daemon-go/bench/scenario"
)

// Table prints a result for a terminal.
func Table(to io.Writer, r *scenario.Result) {
	o := r.Options
	fmt.Fprintf(to, "\n%s against %s: %s clients over %s, %s apart\n\n", o.Scenario, r.Target, o.Client, o.SocketType, o.Delay)
	latencies(to, r)
	fmt.Fprintln(to)
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	for _, row := range rows(r) {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	_ = t.Flush() // to's error: there is nobody to tell
	for _, w := range r.Warnings {
		fmt.Fprintln(to, "\nnote:", w)
	}
}

// namedSpread is a row of the latency table.
type namedSpread struct {
	name   string
	spread scenario.Spread
}

// spreads are the latencies of r that have something to say.
func spreads(r *scenario.Result) []namedSpread {
	all := []namedSpread{
		{"handoff (sender)", r.Handoff},
		{"time to first byte", r.FirstByte},
		{"lateness of events", r.Lateness},
		{"gap between events", r.Gap},
		{"whole stream", r.Stream},
	}
	if a := r.Alone; a != nil {
		all = append(all, namedSpread{"lateness, no slow clients", a.Lateness}, namedSpread{"gap, no slow clients", a.Gap})
	}
	return slices.DeleteFunc(all, func(n namedSpread) bool { return n.spread.Count == 0 })
}

func latencies(to io.Writer, r *scenario.Result) {
	t := tabwriter.NewWriter(to, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tcount\tp50\tp90\tp99\tp99.9\tmax\t")
	for _, n := range spreads(r) {
		s := n.spread
		fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", n.name, s.Count, micros(s.P50), micros(s.P90), micros(s.P99),
			micros(s.P999), micros(s.Max))
	}
	_ = t.Flush() // as above
}

// rows are the figures that are not latencies: name and text.
func rows(r *scenario.Result) [][2]string {
	c, w, m := r.Clients, r.Window, r.Memory
	rows := [][2]string{
		{"clients", fmt.Sprintf("%d opened, %d finished, %d left, %d evicted", c.Opened, c.Finished, c.Left, c.Evicted)},
		{"faults", faults(c.Faults)},
		{"throughput", fmt.Sprintf("%.0f events/s, %.0f streams/s over %v", per(w.Events, w.Length), per(w.Streams, w.Length),
			w.Length.Round(time.Millisecond))},
	}
	cpu := fmt.Sprintf("%.2f s (%.0f%% of one)", w.CPU.Seconds(), 100*w.CPU.Seconds()/max(w.Length.Seconds(), 1e-9))
	if w.Events > 0 {
		cpu += fmt.Sprintf(", %.2f µs per event", float64(w.PerEvent())/1000)
	}
	if w.Streams > 0 {
		cpu += fmt.Sprintf(", %.1f µs per stream", float64(w.PerStream())/1000)
	}
	rows = append(rows,
		[2]string{"CPU", cpu},
		[2]string{"context switches", fmt.Sprintf("%d voluntary, %d forced", w.Voluntary, w.Forced)},
		[2]string{"memory (RSS)", fmt.Sprintf("%s idle, %s with %d streams, %s peak, %s after",
			formatBytes(m.Idle), formatBytes(m.Full), m.Streams, formatBytes(m.Peak), formatBytes(m.After))},
		[2]string{"  per stream", fmt.Sprintf("%.0f bytes open, %.0f bytes after; %.0f bytes of kernel memory for both ends",
			m.PerStream(), m.AfterPerStream(), m.KernelPerStream())},
		[2]string{"descriptors", fmt.Sprintf("%d idle, %d full, %d after", r.FDs.Idle, r.FDs.Full, r.FDs.After)},
		[2]string{"harness CPU", fmt.Sprintf("%.2f s (%.0f%% of one)", w.HarnessCPU.Seconds(),
			100*w.HarnessCPU.Seconds()/max(w.Length.Seconds(), 1e-9))},
	)
	return rows
}

func faults(f map[string]uint64) string {
	if len(f) == 0 {
		return "none"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(f)) {
		parts = append(parts, fmt.Sprintf("%d %s", f[name], name))
	}
	return strings.Join(parts, ", ")
}

func per(n uint64, d time.Duration) float64 { return float64(n) / max(d.Seconds(), 1e-9) }

// micros writes a number of microseconds with three digits.
func micros(us int64) string {
	switch d := time.Duration(us) * time.Microsecond; {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", us)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", float64(us)/1e3)
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(us)/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", float64(us)/1e3)
	default:
		return fmt.Sprintf("%.2f s", float64(us)/1e6)
	}
}

func formatBytes(n int64) string {
	switch {
	case n < 10<<10:
		return fmt.Sprintf("%d B", n)
	case n < 10<<20:
		return fmt.Sprintf("%.0f KB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MB", float64(n)/(1<<20))
}
