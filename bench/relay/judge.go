package relay

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"
)

// The bars.
const (
	cpuRatioMost     = 0.5                   // CPU per relayed event, of the same relay made of net/http
	memoryMost       = 2.5 * 1024            // bytes of RSS per stream, over idle
	streamsPerStackH = 50                    // HTTP/2: at least so many streams for each goroutine more
	cancelMost       = 50 * time.Millisecond // until the upstream hears that a client has gone
)

// Judged are the bars with what was measured: what, at most, measured, met.
func Judged(runs []Run) (rows [][4]string) {
	row := func(what, most, measured string, met bool) {
		rows = append(rows, [4]string{what, most, measured, map[bool]string{true: "yes", false: "no"}[met]})
	}
	for _, t := range []Transport{H2, H1} {
		daemon, other := of(runs, t, true), of(runs, t, false)
		if len(daemon) == 0 {
			continue
		}
		n := daemon[0].Result.Options.Streams
		name := func(what string) string { return fmt.Sprintf("%s, %d streams: %s", t, n, what) }
		bad := 0
		for _, r := range daemon {
			if r.Failed() {
				bad++
			}
		}
		row(name("runs with a stream that was not whole"), "0", strconv.Itoa(bad), bad == 0)
		memory := median(daemon, func(r Run) float64 { return r.Result.Memory.PerStream() })
		row(name("memory per stream"), fmt.Sprintf("%.0f B", memoryMost), fmt.Sprintf("%.0f B", memory), memory <= memoryMost)
		if grown, ok := grownMost(daemon); ok {
			most := 0
			if t == H2 {
				most = n / streamsPerStackH
			}
			row(name("goroutines more than idle"), strconv.Itoa(most), strconv.Itoa(grown), grown <= most)
		}
		if len(other) > 0 {
			ratio := median(daemon, perEvent) / median(other, perEvent)
			row(name("CPU per event, times that of net/http"), fmt.Sprint(cpuRatioMost), fmt.Sprintf("%.2f", ratio), ratio <= cpuRatioMost)
		}
		if took := allCancels(daemon); len(took) > 0 {
			worst := took[len(took)-1]
			row(name("client gone until the upstream hears of it, worst"), cancelMost.String(), worst.Round(10*time.Microsecond).String(), worst <= cancelMost)
		}
	}
	return rows
}

// Table prints the runs and the bars.
func Table(to io.Writer, runs []Run) {
	t := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "round\ttransport\tcontestant\tstreams\twhole\tfaults\tCPU/event\tmemory/stream\tlateness p50\tp99\tgoroutines\tcancel p50\tworst\tmockllm CPU")
	for _, r := range runs {
		c := r.Result.Clients
		goroutines, cancel, worst := "", "", ""
		if r.GoroutinesFull >= 0 {
			goroutines = fmt.Sprintf("%d to %d", r.GoroutinesIdle, r.GoroutinesFull)
		}
		if n := len(r.Cancels); n > 0 {
			cancel, worst = r.Cancels[n/2].Round(time.Microsecond).String(), r.Cancels[n-1].Round(time.Microsecond).String()
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%d\t%v\t%.2f µs\t%.0f B\t%.1f ms\t%.1f ms\t%s\t%s\t%s\t%.1f s\n", r.Round, r.Transport, r.Contestant,
			c.Opened, c.Finished, c.Faults, perEvent(r), r.Result.Memory.PerStream(), float64(r.Result.Lateness.P50)/1e3,
			float64(r.Result.Lateness.P99)/1e3, goroutines, cancel, worst, r.Upstream.Seconds())
	}
	fmt.Fprintln(t)
	fmt.Fprintln(t, "bar\tat most\tmeasured\tmet")
	for _, row := range Judged(runs) {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", row[0], row[1], row[2], row[3])
	}
	_ = t.Flush() // to's error: there is nobody to tell
	for _, r := range runs {
		for _, w := range r.Result.Warnings {
			fmt.Fprintf(to, "\nnote, round %d, %s over %s: %s\n", r.Round, r.Contestant, r.Transport, w)
		}
	}
}

func of(runs []Run, t Transport, daemon bool) []Run {
	return slices.DeleteFunc(slices.Clone(runs), func(r Run) bool {
		return r.Transport != t || (r.Contestant == DaemonName) != daemon
	})
}

// DaemonName is the Name of Config.Daemon.
const DaemonName = "daemon"

// perEvent is in microseconds.
func perEvent(r Run) float64 { return float64(r.Result.Window.PerEvent()) / 1e3 }

func median(runs []Run, of func(Run) float64) float64 {
	var all []float64
	for _, r := range runs {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return (all[(len(all)-1)/2] + all[len(all)/2]) / 2
}

func grownMost(runs []Run) (most int, ok bool) {
	for _, r := range runs {
		if r.GoroutinesIdle >= 0 && r.GoroutinesFull >= 0 {
			most, ok = max(most, r.GoroutinesFull-r.GoroutinesIdle), true
		}
	}
	return most, ok
}

func allCancels(runs []Run) (all []time.Duration) {
	for _, r := range runs {
		all = append(all, r.Cancels...)
	}
	slices.Sort(all)
	return all
}
