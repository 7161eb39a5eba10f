package scenario_test

import (
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/load"
	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

func TestOptionsThatCannotBePlayed(t *testing.T) {
	tests := []struct {
		options scenario.Options
		want    string
	}{
		{scenario.Options{Scenario: "flood"}, `no scenario "flood"`},
		{scenario.Options{Scenario: "hold", Streams: 1 << 30}, "descriptors"},
		{scenario.Options{Scenario: "paced", Prompt: true}, "too soon"},
	}
	for _, tt := range tests {
		if _, err := tt.options.WithDefaults(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.options, err, tt.want)
		}
	}
	for _, name := range scenario.Names() {
		if _, err := (scenario.Options{Scenario: name}).WithDefaults(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is asked for stays, what is not gets the scenario's own value, and a negative delay is none.
func TestDefaults(t *testing.T) {
	o, err := scenario.Options{Scenario: "churn", Concurrency: 7, Delay: -1}.WithDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if o.Concurrency != 7 || o.Delay != 0 || o.Messages != 19 || o.Workers < 1 || o.SocketType != load.Seqpacket {
		t.Errorf("%+v", o)
	}
}

// The streams of hold, paced, slow and storm must outlast the run, or their end would be taken for a fault.
func TestEndlessStreamsOutlastTheRun(t *testing.T) {
	for _, name := range []string{"hold", "paced", "slow", "storm"} {
		o, err := scenario.Options{Scenario: name, Rate: 10, Streams: 200, SocketType: load.Stream}.WithDefaults()
		if err != nil {
			t.Fatal(err)
		}
		demo := o.Demo()
		run := 2 * (20*time.Second + o.Duration) // opening, and the window; slow does it twice
		if lasts := time.Duration(demo.Messages) * demo.Delay; lasts < run {
			t.Errorf("%s: streams of %d events last %v, the run %v", name, demo.Messages, lasts, run)
		}
		if demo.Socket != target.StreamSocket || demo.Streams != 200 {
			t.Errorf("%s: %+v", name, demo)
		}
	}
}
