package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/scenario"
)

// bar shows how a run goes on: a line that is drawn again on a terminal, a line every few seconds elsewhere.
type bar struct {
	to       *os.File
	terminal bool
	last     scenario.Moment
	shown    time.Time
}

const (
	barWidth  = 28
	plainEach = 5 * time.Second
)

func newBar(to *os.File) *bar {
	_, err := unix.IoctlGetTermios(int(to.Fd()), unix.TCGETS)
	return &bar{to: to, terminal: err == nil}
}

// show draws p. Called from one goroutine at a time.
func (b *bar) show(p scenario.Progress) {
	if !b.terminal && time.Since(b.shown) < plainEach {
		return
	}
	b.shown = time.Now()
	seconds := (p.Moment.At - b.last.At).Seconds()
	rate := func(n float64) float64 { return n / max(seconds, 0.001) }
	events := rate(float64(p.Moment.Events) - float64(b.last.Events))
	if p.Moment.Events < b.last.Events { // another fleet
		events = 0
	}
	line := fmt.Sprintf("%-10s %s %6d open %8.0f events/s  target %3.0f%% CPU %7.1f MB  harness %3.0f%%  faults %d",
		p.Phase, gauge(p.Ahead), p.Counts.Live(), events,
		100*rate((p.Moment.CPU-b.last.CPU).Seconds()), float64(p.Moment.RSS)/(1<<20),
		100*rate((p.Moment.Harness-b.last.Harness).Seconds()), p.Counts.FaultsAll())
	b.last = p.Moment
	if b.terminal {
		fmt.Fprint(b.to, "\r\x1b[K", line)
		return
	}
	fmt.Fprintln(b.to, line)
}

func gauge(ahead float64) string {
	full := int(ahead * barWidth)
	return "[" + strings.Repeat("█", full) + strings.Repeat("·", barWidth-full) + "]"
}

// end clears the line.
func (b *bar) end() {
	if b.terminal {
		fmt.Fprint(b.to, "\r\x1b[K")
	}
}

// showOnTerminal is show where the line can be drawn again.
func (b *bar) showOnTerminal(p scenario.Progress) {
	if b.terminal {
		b.show(p)
	}
}
