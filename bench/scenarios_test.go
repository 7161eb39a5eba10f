package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

// The scenarios, small: some hundred streams each, for what is right and not for what is fast.
var small = []scenario.Options{
	{Scenario: "hold", Streams: 200, Duration: 300 * time.Millisecond, Delay: 200 * time.Millisecond},
	{Scenario: "paced", Streams: 200, Duration: time.Second, Delay: 50 * time.Millisecond},
	{Scenario: "paced", Streams: 100, Duration: 300 * time.Millisecond, Delay: 20 * time.Millisecond, Messages: 60},
	{Scenario: "churn", Concurrency: 50, Duration: time.Second},
	{Scenario: "churn", Concurrency: 50, Duration: time.Second, Prompt: true, PayloadBytes: 40_000},
	{Scenario: "slow", Streams: 80, Duration: time.Second},
	{Scenario: "leave", Streams: 200, Messages: 20, Delay: 20 * time.Millisecond},
	{Scenario: "leave", Streams: 100, Prompt: true, Delay: 10 * time.Millisecond},
	{Scenario: "storm", Streams: 300, Delay: 200 * time.Millisecond},
}

// Every scenario, over both types of handoff socket and both kinds of client, must end with every client accounted
// for, no fault, and no descriptor left in the target.
func TestScenarios(t *testing.T) {
	dir := t.TempDir()
	floor, err := os.ReadFile(filepath.Join("floor", "floor.c"))
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string]func(dir string) (target.Spec, error){
		"daemon":     target.BuildDaemon,
		"goroutines": target.BuildGoroutines,
		"floor":      func(dir string) (target.Spec, error) { return target.BuildFloor(dir, floor) },
	}
	for name, build := range targets {
		t.Run(name, func(t *testing.T) {
			spec, err := build(dir)
			if errors.Is(err, target.ErrNoCompiler) {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range small {
				if o.Prompt && name == "floor" {
					continue // it does not look at payloads
				}
				for _, socketType := range []load.SocketType{load.Seqpacket, load.Stream} {
					for _, client := range []load.ClientType{load.TCP, load.Pair} {
						if name != "daemon" && (socketType == load.Stream) != (client == load.Pair) {
							continue // half of the combinations will do for what is not shipped
						}
						o.SocketType, o.Client = socketType, client
						t.Run(title(o), func(t *testing.T) {
							t.Parallel()
							runSmall(t, spec, o)
						})
					}
				}
			}
		})
	}
}

func title(o scenario.Options) string {
	s := o.Scenario
	if o.Prompt {
		s += " prompt"
	}
	return s + " " + o.SocketType.String() + " " + o.Client.String()
}

func runSmall(t *testing.T, spec target.Spec, o scenario.Options) {
	o, err := o.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bench") // t.TempDir is too long for the path of a socket
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	p, err := target.Start(t.Context(), spec, dir, o.Demo())
	if err != nil {
		t.Fatal(err)
	}
	r, err := scenario.Run(t.Context(), o, p, nil)
	if stopErr := p.Stop(); stopErr != nil {
		t.Error(stopErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := r.Clients
	if r.Failed() {
		t.Errorf("faults %v, descriptors %+v, warnings %q\n%s", c.Faults, r.FDs, r.Warnings, p.Output())
	}
	if c.Finished+c.Left+c.Evicted != c.Opened {
		t.Errorf("of %d clients %d finished, %d left, %d were evicted", c.Opened, c.Finished, c.Left, c.Evicted)
	}
	if o.Scenario != "churn" && c.Opened != uint64(o.Streams) {
		t.Errorf("%d clients opened, want %d", c.Opened, o.Streams)
	}
	if o.Scenario == "churn" && c.Finished < 100 {
		t.Errorf("%d streams finished, want hundreds", c.Finished)
	}
	if c.Events == 0 || r.FirstByte.Count == 0 || r.Window.CPU == 0 && o.Scenario != "hold" || r.Memory.Full == 0 {
		t.Errorf("something was not measured: %+v", r)
	}
	if !o.Prompt && o.Messages > 0 && o.LeaveShare == 0 && c.Events != c.Finished*uint64(o.Messages) {
		t.Errorf("%d events in %d whole streams of %d", c.Events, c.Finished, o.Messages)
	}
}

// An attached process is measured like a started one, and left running.
func TestAttach(t *testing.T) {
	spec, err := target.BuildGoroutines(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o, err := scenario.Options{Scenario: "churn", Concurrency: 10, Duration: 200 * time.Millisecond}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	started, err := target.Start(t.Context(), spec, dir, o.Demo())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := started.Stop(); err != nil {
			t.Error(err)
		}
	}()
	p, err := target.Attach(started.PID, started.Stream, started.Seqpacket)
	if err != nil {
		t.Fatal(err)
	}
	r, err := scenario.Run(t.Context(), o, p, nil)
	if err != nil || r.Failed() || r.Clients.Finished == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := p.Stop(); err != nil || !started.Running() {
		t.Errorf("running after Stop of the attached one: %v, %v", started.Running(), err)
	}
}
