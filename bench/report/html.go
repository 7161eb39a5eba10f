package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"os"
	"time"

	"streaming-daemon-go/bench/scenario"
)

//go:embed page.html
var pageSource string

var pageTemplate = template.Must(template.New("page").Parse(pageSource))

// view is what the page shows of one result.
type view struct {
	Result  *scenario.Result
	Cards   []card
	Charts  []template.HTML
	Spreads []spreadRow
	Rows    [][2]string
}

type card struct {
	Value, Name string
	Bad         bool
}

type spreadRow struct {
	Name                           string
	Count                          int64
	P50, P90, P99, P999, Max, Mean string
}

// WriteHTML writes one self-contained page: no script, no font, no picture from elsewhere.
func WriteHTML(path string, p Page) error {
	data := struct {
		Page
		When   string
		Memory string
		Shown  []template.HTML
		Views  []view
	}{p, p.Date.Format(time.RFC1123), formatBytes(p.Machine.Memory), nil, nil}
	for _, svg := range p.Charts {
		data.Shown = append(data.Shown, template.HTML(svg)) // made by us; names in it are escaped
	}
	for _, r := range p.Results {
		data.Views = append(data.Views, viewOf(r))
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, data); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func viewOf(r *scenario.Result) view {
	v := view{Result: r, Rows: rows(r), Cards: cards(r)}
	for _, n := range spreads(r) {
		s := n.spread
		v.Spreads = append(v.Spreads, spreadRow{n.name, s.Count, micros(s.P50), micros(s.P90), micros(s.P99), micros(s.P999),
			micros(s.Max), micros(int64(s.Mean))})
	}
	for _, c := range []Chart{latencyChart(r), cpuChart(r), eventsChart(r), memoryChart(r)} {
		if len(c.Lines) > 0 {
			v.Charts = append(v.Charts, template.HTML(c.SVG())) // as above
		}
	}
	return v
}

// cards are the few figures that one looks for first.
func cards(r *scenario.Result) []card {
	c := r.Clients
	all := []card{{fmt.Sprint(c.Opened), "clients", false}}
	if r.Window.Streams > 0 {
		all = append(all, card{fmt.Sprintf("%.1f µs", float64(r.Window.PerStream())/1000), "CPU per stream", false})
	}
	if r.Window.Events > 0 {
		all = append(all, card{fmt.Sprintf("%.2f µs", float64(r.Window.PerEvent())/1000), "CPU per event", false})
	}
	if r.Options.Scenario != "churn" { // there most of it is the start of the process, shared by few streams
		all = append(all, card{fmt.Sprintf("%.0f B", r.Memory.PerStream()), "memory per open stream", false})
	}
	all = append(all, card{micros(r.FirstByte.P99), "first byte, p99", false})
	if r.Lateness.Count > 0 {
		all = append(all, card{micros(r.Lateness.P99), "lateness, p99", false})
	}
	var faulty uint64
	for _, n := range c.Faults {
		faulty += n
	}
	return append(all, card{fmt.Sprint(faulty), "faults", faulty > 0})
}
