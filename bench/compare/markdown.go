package compare

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"streaming-daemon-go/bench/report"
	"streaming-daemon-go/bench/scenario"
)

// The names of the contestants that others are held against.
const (
	floorName      = "floor"
	goroutinesName = "goroutines"
)

// Report is a comparison with all that is needed to make it again.
type Report struct {
	Machine  report.Machine                `json:"machine"`
	Command  string                        `json:"command"`
	Date     time.Time                     `json:"date"`
	Config   Config                        `json:"config"`
	Runs     []Run                         `json:"runs"`
	Syscalls map[string]map[string]float64 `json:"syscalls_per_stream"` // by contestant, then by name
}

// summary answers questions about a report.
type summary struct {
	runs   []Run
	names  []string
	daemon string
}

func (r *Report) summary() *summary {
	s := &summary{runs: r.Runs, daemon: r.Config.Daemon}
	for _, c := range r.Config.Contestants {
		s.names = append(s.names, c.Name)
	}
	return s
}

func (s *summary) values(stage, name string) []Values {
	for _, m := range Metrics {
		if m.Stage == stage && m.Name == name {
			return Collect(s.runs, s.names, m)
		}
	}
	panic("compare: no metric " + stage + " " + name)
}

// Markdown is the report as a document. Pictures are the paths of the charts as seen from it.
func (r *Report) Markdown(pictures []string) string {
	s := r.summary()
	var b strings.Builder
	fmt.Fprintf(&b, `# Results

Made by `+"`%s`"+` on %s. Everything below comes from that one run; the raw figures are beside the charts.

%d × %s, %.0f GB, Linux %s, %s, commit %s. Clients and target share the machine.

The contestants: `+"`floor`"+` is a bare epoll loop in C, `+"`goroutines`"+` the classic Go design with a goroutine per
client, the others are the daemon with the number of loops in their name (default: its own choice). They send the same
bytes on the same schedule to the same clients, and take turns: %d rounds. Figures are medians of the rounds with the
smallest and the largest in brackets; ratios are medians of the ratios within each round.

`, r.Command, r.Date.Format("2 January 2006"), r.Machine.CPUs, r.Machine.CPU, float64(r.Machine.Memory)/(1<<30),
		r.Machine.Kernel, r.Machine.Go, r.Machine.Commit, r.Config.Rounds)
	for _, p := range pictures {
		fmt.Fprintf(&b, "![](%s)\n", p)
	}
	b.WriteString("\n## What the daemon is held to\n\n| what | at most | measured | met |\n|---|---|---|---|\n")
	for _, row := range r.Judged() {
		if row[3] == "no" {
			row[3] = "**no**"
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row[:], " | "))
	}
	for _, stage := range []struct{ name, title string }{
		{"paced", fmt.Sprintf("paced: %d TCP streams, an event per second each", r.Config.Streams)},
		{"churn", fmt.Sprintf("churn: streams of 19 events, %d at the same time, as fast as they go", r.Config.Concurrency)},
		{"storm", fmt.Sprintf("storm: %d handoffs as fast as they go, then all clients leave", r.Config.Streams)},
		{"slow", "slow: a quarter of 200 clients reads slowly or not at all"},
	} {
		s.stageTable(&b, stage.name, stage.title)
	}
	r.ladderTables(&b, s)
	r.syscallTable(&b)
	r.notes(&b)
	return b.String()
}

// stageTable has a row for each metric and a column for each contestant.
func (s *summary) stageTable(b *strings.Builder, stage, title string) {
	var names []string
	for _, m := range Metrics {
		if m.Stage == stage {
			for _, v := range Collect(s.runs, s.names, m) {
				names = append(names, v.Contestant)
			}
			break
		}
	}
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## %s\n\n| | %s |\n|---|%s\n", title, strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, m := range Metrics {
		if m.Stage != stage {
			continue
		}
		all := Collect(s.runs, names, m)
		fmt.Fprintf(b, "| %s, %s |", m.Name, m.Unit)
		for _, v := range all {
			fmt.Fprintf(b, " %s (%s–%s) |", figure(v.Median()), figure(v.Least()), figure(v.Most()))
		}
		fmt.Fprintf(b, "\n")
		if base := named(all, floorName); len(base.ByRound) > 0 && strings.HasPrefix(m.Name, "CPU") {
			s.ratioRow(b, all, floorName)
			s.ratioRow(b, all, goroutinesName)
		}
	}
}

func (s *summary) ratioRow(b *strings.Builder, all []Values, to string) {
	base := named(all, to)
	if len(base.ByRound) == 0 {
		return
	}
	fmt.Fprintf(b, "| … times %s |", to)
	for _, v := range all {
		if q, ok := v.RatioTo(base); ok {
			fmt.Fprintf(b, " %.2f |", q)
		} else {
			b.WriteString(" |")
		}
	}
	b.WriteString("\n")
}

func (r *Report) ladderTables(b *strings.Builder, s *summary) {
	if len(r.Config.Ladder) == 0 {
		return
	}
	b.WriteString("\n## The ladder: how it grows with the number of streams\n")
	for _, m := range ladderFigures {
		fmt.Fprintf(b, "\n%s\n\n| streams | %s |\n|---|%s\n", m.title, strings.Join(s.names, " | "), strings.Repeat("---|", len(s.names)))
		columns := map[string][][2]float64{}
		for _, name := range s.names {
			columns[name] = Ladder(r.Runs, name, r.Config.Ladder, m.of)
		}
		for _, n := range r.Config.Ladder {
			fmt.Fprintf(b, "| %d |", n)
			for _, name := range s.names {
				cell := ""
				for _, p := range columns[name] {
					if p[0] == float64(n) {
						cell = figure(p[1])
					}
				}
				fmt.Fprintf(b, " %s |", cell)
			}
			b.WriteString("\n")
		}
	}
}

// ladderFigures are what is shown of the ladder.
var ladderFigures = []struct {
	title, short, unit string
	log                bool // orders of magnitude apart
	of                 func(*scenario.Result) float64
}{
	{"CPU per event, µs", "CPU per event", "µs", false, func(r *scenario.Result) float64 { return micros(r.Window.PerEvent().Nanoseconds()) }},
	{"Memory per open stream, bytes", "Memory per open stream", "bytes", true, func(r *scenario.Result) float64 { return r.Memory.PerStream() }},
}

// syscallTable lists what one stream costs in calls.
func (r *Report) syscallTable(b *strings.Builder) {
	if len(r.Syscalls) == 0 {
		return
	}
	names := slices.Sorted(maps.Keys(r.Syscalls))
	totals := map[string]float64{}
	for _, calls := range r.Syscalls {
		for call, n := range calls {
			totals[call] = max(totals[call], n)
		}
	}
	order := slices.SortedFunc(maps.Keys(totals), func(x, y string) int {
		return cmp.Or(cmp.Compare(totals[y], totals[x]), cmp.Compare(x, y))
	})
	fmt.Fprintf(b, "\n## Syscalls of a whole stream\n\nHandoff to close, 19 events over a seqpacket socket, 100 streams a second, counted by strace. Waiting is shared by\nmore streams the more there are.\n\n| call | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, call := range order {
		if totals[call] < 0.05 {
			continue
		}
		fmt.Fprintf(b, "| %s |", call)
		for _, name := range names {
			fmt.Fprintf(b, " %s |", figure(max(0, r.Syscalls[name][call])))
		}
		b.WriteString("\n")
	}
}

// notes gathers the warnings of the runs, each once with how often it came.
func (r *Report) notes(b *strings.Builder) {
	var lines []string
	for _, run := range r.Runs {
		for _, w := range run.Result.Warnings {
			lines = append(lines, fmt.Sprintf("- %s, round %d, %s: %s", run.Stage, run.Round, run.Contestant, w))
		}
		if n := len(run.Result.Clients.Faults); n > 0 {
			lines = append(lines, fmt.Sprintf("- %s, round %d, %s: faults %v", run.Stage, run.Round, run.Contestant, run.Result.Clients.Faults))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(b, "\n## Notes of the harness\n\n%s\n", strings.Join(lines, "\n"))
	}
}
