package report_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/report"
	"streaming-daemon-go/bench/scenario"
)

func sample() *scenario.Result {
	curve := make([]int64, len(scenario.CurvePercentiles))
	for i := range curve {
		curve[i] = int64(100 * (i + 1))
	}
	r := &scenario.Result{
		Target:    "a <target>",
		Options:   scenario.Options{Scenario: "paced", Delay: time.Second},
		Window:    scenario.Window{Length: 10 * time.Second, Events: 1_000_000, CPU: 5 * time.Second, HarnessCPU: time.Second},
		Memory:    scenario.Memory{Idle: 10 << 20, Full: 20 << 20, Peak: 21 << 20, After: 11 << 20, Streams: 10 << 10},
		Clients:   scenario.Clients{Opened: 10240, Left: 10238, Faults: map[string]uint64{"torn": 2}},
		FirstByte: scenario.Spread{Count: 10240, P50: 90, P90: 1500, P99: 25_000, P999: 250_000, Max: 2_500_000, Curve: curve},
		Warnings:  []string{"the harness is the <bottleneck>"},
	}
	for i := range 10 {
		r.Series = append(r.Series, scenario.Moment{At: time.Duration(i) * time.Second, Live: uint64(i * 1000), Events: uint64(i * 5000),
			CPU: time.Duration(i) * 100 * time.Millisecond, RSS: int64(i) << 20})
	}
	return r
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	report.Table(&b, sample())
	for _, want := range []string{
		"paced against a <target>", "90 µs   1.50 ms   25.0 ms   250 ms   2.50 s", "2 torn", "100000 events/s", "5.00 µs per event",
		"1024 bytes open, 102 bytes after", "note: the harness is the <bottleneck>",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

// The page needs nothing from elsewhere, runs no script, and escapes what is not its own.
func TestHTMLIsSelfContained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.html")
	p := report.Page{Title: "paced against a <target>", Command: "go run ./bench", Date: time.Unix(0, 0), Results: []*scenario.Result{sample()}}
	if err := report.WriteHTML(path, p); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(b), `xmlns="http://www.w3.org/2000/svg"`, "")
	for _, bad := range []string{"http:", "https:", "<script", "url(", "@import", "<target>", "<bottleneck>"} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if n := strings.Count(page, "<svg"); n != 4 {
		t.Errorf("%d charts, want 4: latency, CPU, events, memory", n)
	}
	for _, want := range []string{"1024 B", "5.00 µs", "25.0 ms", "&lt;bottleneck&gt;", `<div class="card bad"><b>2</b><span>faults</span>`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
}

func TestJSONReadsBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	if err := report.WriteJSON(path, report.Page{Results: []*scenario.Result{sample()}, Machine: report.ThisMachine()}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back report.Page
	if err := json.Unmarshal(b, &back); err != nil || back.Results[0].Window != sample().Window || back.Machine.CPUs == 0 || back.Machine.Kernel == "" {
		t.Errorf("read back %+v, %v", back, err)
	}
}

// A chart stays within its picture and is well-formed, whatever the values: one point, none, zeros, a wide range.
func TestChartsHold(t *testing.T) {
	for _, points := range [][][2]float64{nil, {{0, 0}}, {{1, 0}, {2, 0}}, {{1, 1e-6}, {1e6, 1e9}}, {{1, 3}, {2, 7}}} {
		for _, log := range []bool{false, true} {
			c := report.Chart{Title: "a & b", YLog: log, Points: true, Lines: []report.Line{{Name: "<x>", Points: points}}}
			svg := c.SVG()
			d := xml.NewDecoder(strings.NewReader(svg))
			for {
				_, err := d.Token()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%v log %v: %v\n%s", points, log, err, svg)
				}
			}
			if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("%v log %v: no number in\n%s", points, log, svg)
			}
		}
	}
}
