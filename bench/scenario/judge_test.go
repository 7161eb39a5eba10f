package scenario_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

// A reader of a result is told when it says more about the harness or the machine than about the target.
func TestWarnings(t *testing.T) {
	self, err := target.Attach(os.Getpid(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		result scenario.Result
		want   string // empty: no warning
		failed bool
	}{
		{name: "calm", result: scenario.Result{Window: scenario.Window{Length: time.Second, CPU: time.Millisecond, HarnessCPU: time.Millisecond}}},
		{name: "busy harness", result: scenario.Result{Window: scenario.Window{Length: time.Second, HarnessCPU: 900 * time.Millisecond}}, want: "bottleneck"},
		{name: "busy machine", result: scenario.Result{Window: scenario.Window{Length: time.Second, CPU: time.Hour}}, want: "saturated"},
		{name: "descriptors left", result: scenario.Result{FDs: scenario.FDs{Idle: 3, After: 5}}, want: "2 descriptors more", failed: true},
		{name: "full backlog", result: scenario.Result{Clients: scenario.Clients{Retries: 4}}, want: "full 4 times"},
		{name: "fault", result: scenario.Result{Clients: scenario.Clients{Faults: map[string]uint64{"torn": 1}}}, failed: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := scenario.Judge(self, scenario.Options{Workers: 1}, &tt.result)
			if tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("warnings %q, want one with %q", got, tt.want)
			}
			if tt.result.Failed() != tt.failed {
				t.Errorf("failed %v, want %v", tt.result.Failed(), tt.failed)
			}
		})
	}
}
