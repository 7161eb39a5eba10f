package metrics

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// kind is the word after # TYPE.
type kind string

const (
	counter   kind = "counter"
	gauge     kind = "gauge"
	histogram kind = "histogram"
	summary   kind = "summary"
)

// page is one page in the text format that Prometheus scrapes, version 0.0.4
// (prometheus.io/docs/instrumenting/exposition_formats). One goroutine builds
// it; it is not safe for concurrent use.
type page struct {
	buf []byte
}

// escapeHelp and escapeLabel are the escapes that the format asks for; help
// text keeps its quotes.
var (
	escapeHelp  = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
	escapeLabel = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
)

// label is one name="value" pair.
type label struct{ name, value string }

// family opens a family: its HELP and its TYPE. Its samples follow at once.
func (p *page) family(name string, k kind, help string) {
	p.buf = fmt.Appendf(p.buf, "# HELP %s %s\n# TYPE %s %s\n", name, escapeHelp.Replace(help), name, k)
}

// number is what a sample can hold. Integers are written as integers: a byte
// counter passes 2^53, where a float64 starts to skip values, in three months
// at 10 Gbit/s.
type number interface {
	int64 | uint64 | float64
}

// one writes a family that has a single sample without labels.
func one[N number](p *page, name string, k kind, help string, value N) {
	p.family(name, k, help)
	sample(p, name, value)
}

// sample writes one line of the family opened last.
func sample[N number](p *page, name string, value N, labels ...label) {
	p.buf = append(p.buf, name...)
	for i, l := range labels {
		if i == 0 {
			p.buf = append(p.buf, '{')
		} else {
			p.buf = append(p.buf, ',')
		}
		p.buf = append(p.buf, l.name...)
		p.buf = append(p.buf, `="`...)
		p.buf = append(p.buf, escapeLabel.Replace(strings.ToValidUTF8(l.value, "\uFFFD"))...)
		p.buf = append(p.buf, '"')
	}
	if len(labels) > 0 {
		p.buf = append(p.buf, '}')
	}
	p.buf = append(p.buf, ' ')
	switch v := any(value).(type) {
	case int64:
		p.buf = strconv.AppendInt(p.buf, v, 10)
	case uint64:
		p.buf = strconv.AppendUint(p.buf, v, 10)
	case float64:
		p.buf = strconv.AppendFloat(p.buf, v, 'g', -1, 64)
	}
	p.buf = append(p.buf, '\n')
}

// reasons writes one sample per Reason, the zeros included: a series that
// first appears with its first error has no rate at that moment.
func (p *page) reasons(name, help string, counts *[NumReasons]uint64) {
	p.family(name, counter, help)
	for r := range NumReasons {
		sample(p, name, counts[r], label{"reason", r.String()})
	}
}

// buckets writes a histogram that was counted elsewhere. Cumulative counts,
// +Inf and _count are made from the same numbers, so they agree even when the
// loops count on while they are read.
func (p *page) buckets(name, help string, b Buckets) {
	b.mustHold()
	p.family(name, histogram, help)
	var total uint64
	for i, n := range b.Counts {
		total += n
		upper := math.Inf(1)
		if i < len(b.UpperSeconds) {
			upper = b.UpperSeconds[i]
		}
		sample(p, name+"_bucket", total, label{"le", bound(upper)})
	}
	if len(b.Counts) == 0 {
		sample(p, name+"_bucket", total, label{"le", bound(math.Inf(1))})
	}
	sample(p, name+"_sum", b.SumSeconds)
	sample(p, name+"_count", total)
}

// bound spells a bucket's upper bound as the library does ("0.0001", "+Inf"),
// so that all le labels of the page look alike.
func bound(upper float64) string { return fmt.Sprint(upper) }
