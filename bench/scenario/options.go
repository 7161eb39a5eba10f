package scenario

import (
	"fmt"
	"math"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/target"
)

// Options say what to play. The zero value of a field means the default of the scenario, see WithDefaults.
type Options struct {
	Scenario     string          `json:"scenario"`
	Streams      int             `json:"streams"`     // clients in all (churn: no more than Concurrency at once)
	Rate         float64         `json:"rate"`        // clients opened per second
	Concurrency  int             `json:"concurrency"` // churn: clients at the same time
	Duration     time.Duration   `json:"duration_ns"` // of the window that is measured
	Delay        time.Duration   `json:"delay_ns"`    // between two events
	Messages     int             `json:"messages"`    // events per stream; 0 in hold, paced and slow: they outlast the run
	Prompt       bool            `json:"prompt"`      // each stream repeats a prompt of its own, so that order is checked
	Client       load.ClientType `json:"client"`
	SocketType   load.SocketType `json:"socket_type"`
	PayloadBytes int             `json:"payload_bytes"`
	SlowShare    float64         `json:"slow_share"`  // 0 to 1
	LeaveShare   float64         `json:"leave_share"` // 0 to 1
	Workers      int             `json:"workers"`     // loops of the harness
	Seed         uint64          `json:"seed"`
	Relayed      bool            `json:"relayed,omitempty"` // the target relays a completion: see load.Expect
}

// Names lists the scenarios.
func Names() []string { return []string{"hold", "churn", "paced", "slow", "leave", "storm"} }

const (
	fdsSpare     = 200              // descriptors of the harness itself, and server ends under way
	endlessSpare = 2 * time.Minute  // how much longer than planned a stream that must outlast the run goes on
	firstPatient = 30 * time.Second // for the first byte of the last stream
	endPatience  = 30 * time.Second // for the end of the last stream beyond its schedule
	gonePatience = 15 * time.Second // for the target to notice that clients have gone
	settle       = 500 * time.Millisecond
)

// WithDefaults fills in what is not set.
func (o Options) WithDefaults() (Options, error) {
	d, ok := map[string]Options{
		"hold":  {Streams: 1000, Rate: 3000, Duration: 10 * time.Second, Delay: 5 * time.Second},
		"paced": {Streams: 1000, Rate: 3000, Duration: 10 * time.Second, Delay: time.Second},
		// 19 events 1 ms apart: the clients' turn-round keeps the target busy all the time.
		"churn": {Concurrency: 200, Duration: 10 * time.Second, Delay: time.Millisecond, Messages: 19},
		// 10 ms: a client that does not read has filled its socket and reached any watermark within the run.
		"slow":  {Streams: 200, Rate: 1000, Duration: 15 * time.Second, Delay: 10 * time.Millisecond, SlowShare: 0.25},
		"leave": {Streams: 1000, Rate: 1000, Delay: 50 * time.Millisecond, Messages: 40, LeaveShare: 0.5},
		"storm": {Streams: 1000, Delay: 5 * time.Second},
	}[o.Scenario]
	if !ok {
		return o, fmt.Errorf("scenario: no scenario %q; there are %v", o.Scenario, Names())
	}
	orDefault(&o.Streams, d.Streams)
	orDefault(&o.Rate, d.Rate)
	orDefault(&o.Concurrency, d.Concurrency)
	orDefault(&o.Duration, d.Duration)
	orDefault(&o.Delay, d.Delay)
	orDefault(&o.SlowShare, d.SlowShare)
	orDefault(&o.LeaveShare, d.LeaveShare)
	orDefault(&o.Seed, 1)
	orDefault(&o.Workers, max(1, runtime.NumCPU()/2))
	if !o.Prompt {
		orDefault(&o.Messages, d.Messages)
	}
	if o.Delay < 0 { // the way to ask for 0 where 0 means the default
		o.Delay = 0
	}
	return o, o.check()
}

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// check refuses what cannot be played on this machine.
func (o Options) check() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("scenario: %w", err)
	}
	if open := o.open(); uint64(open+fdsSpare) > limit.Cur {
		return fmt.Errorf("scenario: %d clients need %d descriptors, the limit is %d", open, open+fdsSpare, limit.Cur)
	}
	if o.Prompt && (o.Scenario == "hold" || o.Scenario == "paced" || o.Scenario == "slow" || o.Scenario == "storm") {
		return fmt.Errorf("scenario: a prompt is over too soon for %s; it fits churn and leave", o.Scenario)
	}
	return nil
}

// open is how many clients are open at the same time, at most.
func (o Options) open() int {
	if o.Scenario == "churn" {
		return o.Concurrency
	}
	return o.Streams
}

// endless reports whether the streams outlast the run, so that the clients end them.
func (o Options) endless() bool { return o.Messages == 0 && !o.Prompt }

// Demo is how the target must have been started for these options.
func (o Options) Demo() target.Demo {
	d := target.Demo{Delay: o.Delay, Messages: o.Messages, Streams: o.open()}
	if o.SocketType == load.Stream {
		d.Socket = target.StreamSocket
	}
	if o.endless() {
		opening := time.Duration(0)
		if o.Rate > 0 {
			opening = time.Duration(float64(o.Streams) / o.Rate * float64(time.Second))
		}
		planned := 2*(opening+o.Duration) + endlessSpare // slow opens twice
		d.Messages = int(planned/max(o.Delay, time.Millisecond)) + 1
	}
	return d
}

// lasts is how long a whole stream takes on schedule.
func (o Options) lasts() time.Duration {
	if o.Prompt {
		return 100 * o.Delay // no greeting and prompt has more words
	}
	return time.Duration(o.Messages) * o.Delay
}

func (o Options) fleet(p *target.Process) load.Config {
	path := p.Seqpacket
	if o.SocketType == load.Stream {
		path = p.Stream
	}
	expect := load.Expect{Messages: o.Messages, Prompt: o.Prompt, Relayed: o.Relayed}
	if o.endless() {
		expect.Messages = math.MaxInt // any [DONE] is too early
	}
	return load.Config{
		SocketPath: path, SocketType: o.SocketType, Client: o.Client, PayloadBytes: o.PayloadBytes,
		Expect: expect, Delay: o.Delay, Workers: o.Workers, Streams: o.open(), Seed: o.Seed,
		SlowShare: o.SlowShare, LeaveShare: o.LeaveShare, LeaveWithin: o.lasts(),
	}
}
