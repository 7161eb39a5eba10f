package compare_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/compare"
	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

// result has cpu µs per event and memory bytes per stream.
func result(o scenario.Options, cpu, memory int) *scenario.Result {
	return &scenario.Result{
		Options:  o,
		Window:   scenario.Window{Length: time.Second, Events: 1000, Streams: 100, CPU: time.Duration(cpu) * 1000 * time.Microsecond},
		Memory:   scenario.Memory{Idle: 1000, Full: 1000 + int64(memory)*10, After: 1000, Streams: 10},
		Alone:    &scenario.Alone{Lateness: scenario.Spread{P99: 1000}},
		Lateness: scenario.Spread{P99: 1400, Curve: make([]int64, len(scenario.CurvePercentiles))},
	}
}

// Machines change under a long run: in the second round everything takes twice as long. The ratio within each round
// does not care, while that of the medians, (10+20)/2 to (5+10)/2 of other rounds, would depend on the rounds at hand.
func TestRatiosAreWithinARound(t *testing.T) {
	runs := []compare.Run{
		{Stage: "paced", Round: 1, Contestant: "floor", Result: result(scenario.Options{}, 10, 1)},
		{Stage: "paced", Round: 1, Contestant: "daemon", Result: result(scenario.Options{}, 12, 1)},
		{Stage: "paced", Round: 2, Contestant: "floor", Result: result(scenario.Options{}, 40, 1)},
		{Stage: "paced", Round: 2, Contestant: "daemon", Result: result(scenario.Options{}, 48, 1)},
		{Stage: "paced", Round: 3, Contestant: "daemon", Result: result(scenario.Options{}, 1000, 1)}, // without its pair
		{Stage: "churn", Round: 1, Contestant: "daemon", Result: result(scenario.Options{}, 7, 1)},    // another stage
	}
	values := compare.Collect(runs, []string{"floor", "daemon"}, compare.Metrics[0])
	if len(values) != 2 || values[1].Contestant != "daemon" || len(values[1].ByRound) != 3 {
		t.Fatalf("collected %+v", values)
	}
	got, ok := values[1].RatioTo(values[0])
	if !ok || got < 1.199 || got > 1.201 {
		t.Errorf("ratio %v, %v; want 1.2", got, ok)
	}
	if m := values[1].Median(); m != 48 || values[1].Least() != 12 || values[1].Most() != 1000 {
		t.Errorf("median %v of %v", m, values[1])
	}
	if _, ok := values[1].RatioTo(compare.Values{}); ok {
		t.Error("a ratio to nothing")
	}
}

func sample() *compare.Report {
	r := &compare.Report{Config: compare.Config{Daemon: "daemon", Rounds: 1, Ladder: []int{100, 200}, Streams: 300, Concurrency: 20}}
	for i, name := range []string{"floor", "goroutines", "daemon"} {
		r.Config.Contestants = append(r.Config.Contestants, target.Spec{Name: name})
		for _, stage := range []string{"paced", "churn", "storm"} {
			r.Runs = append(r.Runs, compare.Run{Stage: stage, Round: 1, Contestant: name, Result: result(scenario.Options{}, 10+i, 100)})
		}
		for _, n := range r.Config.Ladder {
			r.Runs = append(r.Runs, compare.Run{Stage: "ladder", Round: 1, Contestant: name, Result: result(scenario.Options{Streams: n}, n+i, 100)})
		}
	}
	r.Runs = append(r.Runs, compare.Run{Stage: "slow", Round: 1, Contestant: "daemon", Result: result(scenario.Options{}, 1, 1)})
	r.Syscalls = map[string]map[string]float64{"floor": {"sendto": 19}}
	return r
}

// The document must say what was measured and whether it is enough: 12 µs to the floor's 10 is not, and the slow
// clients cost 1.4 of 1.5.
func TestMarkdownJudges(t *testing.T) {
	text := sample().Markdown([]string{"results/overview.svg"})
	for _, want := range []string{
		"| paced: CPU per event, times the floor's | 1.10 | 1.20 | **no** |",
		"| paced: memory per open stream, bytes | 1024 | 100 | yes |",
		"| slow: lateness p99 of the readers, times that without slow clients | 1.50 | 1.40 | yes |",
		"| CPU per event, µs | 10.0 (10.0–10.0) | 11.0 (11.0–11.0) | 12.0 (12.0–12.0) |",
		"| 200 | 200 | 201 | 202 |",
		"![](results/overview.svg)",
		"| sendto | 19.0 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	worse := sample()
	worse.Runs[2].Result.Clients.Faults = map[string]uint64{"torn": 3} // storm against the floor: not the daemon's
	worse.Runs[len(worse.Runs)-1].Result.Clients.Faults = map[string]uint64{"lost": 2}
	if text := worse.Markdown(nil); !strings.Contains(text, "descriptors left behind | 0 | 2.00 | **no** |") {
		t.Errorf("the daemon's two faults are not counted:\n%s", text)
	}
}

// Charts are whole XML documents with every contestant in them.
func TestCharts(t *testing.T) {
	charts := sample().Charts()
	if len(charts) != 4 { // no first bytes in the sample
		t.Fatalf("%d charts, want 4", len(charts))
	}
	for name, svg := range charts {
		d := xml.NewDecoder(strings.NewReader(svg))
		for {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		for _, contestant := range []string{"floor", "goroutines", "daemon"} {
			if !strings.Contains(svg, ">"+contestant+"<") {
				t.Errorf("%s has no %s", name, contestant)
			}
		}
	}
}

func TestReportIsJSON(t *testing.T) {
	b, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	var back compare.Report
	if err := json.Unmarshal(b, &back); err != nil || len(back.Runs) != len(sample().Runs) {
		t.Errorf("%d runs read back, %v", len(back.Runs), err)
	}
}

// Contestants play in a row within a stage, each round begins with another one, and slow is for the daemon only.
func TestContestantsTakeTurns(t *testing.T) {
	c := compare.Config{Contestants: []target.Spec{{Name: "a"}, {Name: "b"}, {Name: "c"}}, Daemon: "b", Rounds: 2, Ladder: []int{5}, LadderEach: 1}
	order := compare.Order(c)
	want := "1 paced a,1 paced b,1 paced c,1 churn a,1 churn b,1 churn c,1 storm a,1 storm b,1 storm c,1 slow b,1 ladder a,1 ladder b,1 ladder c," +
		"2 paced b,2 paced c,2 paced a,2 churn b,2 churn c,2 churn a,2 storm b,2 storm c,2 storm a,2 slow b"
	if got := strings.Join(order, ","); got != want {
		t.Errorf("order\n%s\nwant\n%s", got, want)
	}
}
