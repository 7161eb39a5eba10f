package scenario

import (
	"time"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/target"
)

// Result is what one run measured. Durations in JSON are in the unit that their name ends with.
type Result struct {
	Target  string    `json:"target"`
	Loops   int       `json:"loops"` // as asked for; 0: the target's choice
	Options Options   `json:"options"`
	Began   time.Time `json:"began"`

	Clients Clients  `json:"clients"`
	Window  Window   `json:"window"`
	Memory  Memory   `json:"memory"`
	FDs     FDs      `json:"fds"`
	Series  []Moment `json:"series"`

	Handoff   Spread `json:"handoff"`
	FirstByte Spread `json:"first_byte"`
	Lateness  Spread `json:"lateness"`
	Gap       Spread `json:"gap"`
	Stream    Spread `json:"stream"`
	Alone     *Alone `json:"alone,omitempty"`

	Warnings []string `json:"warnings"`
}

// Alone is what the reading clients of slow measured before the slow ones came.
type Alone struct {
	FirstByte Spread `json:"first_byte"`
	Lateness  Spread `json:"lateness"`
	Gap       Spread `json:"gap"`
}

// Clients is what became of them.
type Clients struct {
	Opened   uint64            `json:"opened"`
	Started  uint64            `json:"started"`
	Finished uint64            `json:"finished"`
	Left     uint64            `json:"left"`
	Evicted  uint64            `json:"evicted"`
	Retries  uint64            `json:"backlog_retries"`
	Events   uint64            `json:"events"`
	Bytes    uint64            `json:"bytes"`
	Faults   map[string]uint64 `json:"faults"` // only those that happened
}

// Window is the part of the run that is measured.
type Window struct {
	Length     time.Duration `json:"length_ns"`
	Events     uint64        `json:"events"`  // read by the clients
	Streams    uint64        `json:"streams"` // that ended whole
	CPU        time.Duration `json:"cpu_ns"`
	User       time.Duration `json:"user_ns"`
	System     time.Duration `json:"system_ns"`
	Voluntary  uint64        `json:"context_switches_voluntary"`
	Forced     uint64        `json:"context_switches_forced"`
	HarnessCPU time.Duration `json:"harness_cpu_ns"`
}

// PerEvent is the target's CPU time for each event, 0 when there was none.
func (w Window) PerEvent() time.Duration { return per(w.CPU, w.Events) }

// PerStream is the target's CPU time for each stream that ended, 0 when none did.
func (w Window) PerStream() time.Duration { return per(w.CPU, w.Streams) }

func per(d time.Duration, n uint64) time.Duration {
	if n == 0 {
		return 0
	}
	return d / time.Duration(n)
}

// Memory of the target's process and of the kernel, in bytes.
type Memory struct {
	Idle       int64         `json:"idle"`
	Full       int64         `json:"full"`
	Peak       int64         `json:"peak"`
	After      int64         `json:"after"`   // when all clients have gone
	Streams    uint64        `json:"streams"` // open when Full was read
	KernelIdle target.Kernel `json:"kernel_idle"`
	KernelFull target.Kernel `json:"kernel_full"`
}

// PerStream is the growth of the process for each open stream, in bytes; 0 when none was open.
func (m Memory) PerStream() float64 { return perBytes(m.Full-m.Idle, m.Streams) }

// AfterPerStream is what is left of it when they have gone.
func (m Memory) AfterPerStream() float64 { return perBytes(m.After-m.Idle, m.Streams) }

// KernelPerStream is the growth of the kernel's memory (slab, TCP buffers) for each open stream: both ends of it, as
// the clients are on the same machine.
func (m Memory) KernelPerStream() float64 {
	return perBytes(m.KernelFull.SlabBytes+m.KernelFull.TCPBytes-m.KernelIdle.SlabBytes-m.KernelIdle.TCPBytes, m.Streams)
}

func perBytes(n int64, streams uint64) float64 {
	if streams == 0 {
		return 0
	}
	return float64(n) / float64(streams)
}

// FDs are the target's descriptors; -1: not readable.
type FDs struct {
	Idle  int `json:"idle"`
	Full  int `json:"full"`
	After int `json:"after"`
}

// Moment is one point of the run, for charts.
type Moment struct {
	At      time.Duration `json:"at_ns"` // since the run began
	Live    uint64        `json:"live"`
	Events  uint64        `json:"events"`
	CPU     time.Duration `json:"cpu_ns"`
	RSS     int64         `json:"rss_bytes"`
	Harness time.Duration `json:"harness_cpu_ns"`
}

// Spread is a distribution, in microseconds.
type Spread struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p999_us"`
	Max   int64   `json:"max_us"`
	Curve []int64 `json:"curve_us"` // at CurvePercentiles
}

// CurvePercentiles are the points of Spread.Curve: evenly spaced on the scale 1/(1-p), on which tails can be seen.
var CurvePercentiles = []float64{0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 93, 95, 97, 98, 99, 99.3, 99.5, 99.7, 99.8, 99.9,
	99.95, 99.97, 99.99, 100}

func spreadOf(l load.Latency) Spread {
	us := func(p float64) int64 { return int64(l.At(p) / time.Microsecond) }
	s := Spread{Count: l.Count(), Mean: float64(l.Mean()) / float64(time.Microsecond),
		P50: us(50), P90: us(90), P99: us(99), P999: us(99.9), Max: us(100)}
	if s.Count > 0 {
		for _, p := range CurvePercentiles {
			s.Curve = append(s.Curve, us(p))
		}
	}
	return s
}
