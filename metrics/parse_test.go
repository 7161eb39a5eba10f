package metrics_test

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// parsedFamily is one family of a page.
type parsedFamily struct {
	kind, help string
	labels     []string           // names seen on its samples, sorted, le and quantile included
	samples    map[string]float64 // by series, as written: name{labels}
}

var (
	nameRE   = `[a-zA-Z_:][a-zA-Z0-9_:]*`
	helpLine = regexp.MustCompile(`^# HELP (` + nameRE + `) (\S.*)$`)
	typeLine = regexp.MustCompile(`^# TYPE (` + nameRE + `) (counter|gauge|histogram|summary)$`)
	line     = regexp.MustCompile(`^(` + nameRE + `)(?:\{(.*)\})? (\S+)$`)
	labelRE  = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"(?:,|$)`)
)

// parsePage reads a page in the text format 0.0.4 and is stricter than the
// format: HELP with text, then TYPE, then at least the samples' place, once
// per family; no series twice; every sample in the family opened last;
// counters end in _total and nothing else does; buckets rise to +Inf, which
// equals _count.
func parsePage(page []byte) (map[string]*parsedFamily, error) {
	families := map[string]*parsedFamily{}
	var name string
	if !bytes.HasSuffix(page, []byte("\n")) {
		return nil, fmt.Errorf("page does not end with a newline")
	}
	helped := ""
	for i, l := range strings.Split(strings.TrimSuffix(string(page), "\n"), "\n") {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("line %d %q: %s", i+1, l, fmt.Sprintf(format, args...))
		}
		if m := helpLine.FindStringSubmatch(l); m != nil {
			if families[m[1]] != nil {
				return nil, fail("second HELP")
			}
			name, helped = m[1], m[1]
			families[name] = &parsedFamily{help: m[2], samples: map[string]float64{}}
			continue
		}
		if m := typeLine.FindStringSubmatch(l); m != nil {
			if m[1] != helped {
				return nil, fail("TYPE does not follow its HELP")
			}
			if (m[2] == "counter") != strings.HasSuffix(m[1], "_total") {
				return nil, fail("a counter ends in _total, and only a counter")
			}
			families[name].kind, helped = m[2], ""
			continue
		}
		m := line.FindStringSubmatch(l)
		if m == nil {
			return nil, fail("neither HELP, TYPE nor sample")
		}
		f := families[name]
		if f == nil || f.kind == "" {
			return nil, fail("sample before HELP and TYPE")
		}
		if !belongs(m[1], name, f.kind) {
			return nil, fail("sample in the family %s", name)
		}
		for rest := m[2]; rest != ""; {
			pair := labelRE.FindStringSubmatch(rest)
			if pair == nil {
				return nil, fail("label at %q", rest)
			}
			if !slices.Contains(f.labels, pair[1]) {
				f.labels = append(f.labels, pair[1])
				slices.Sort(f.labels)
			}
			rest = rest[len(pair[0]):]
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, fail("value: %v", err)
		}
		if v < 0 || math.IsNaN(v) {
			return nil, fail("negative or NaN")
		}
		series := strings.TrimSuffix(l, " "+m[3])
		if _, twice := f.samples[series]; twice {
			return nil, fail("series stands twice")
		}
		f.samples[series] = v
	}
	for name, f := range families {
		if f.kind == "" {
			return nil, fmt.Errorf("%s: no TYPE", name)
		}
		if f.kind == "histogram" {
			if err := checkBuckets(name, f); err != nil {
				return nil, err
			}
		}
	}
	return families, nil
}

// belongs reports whether a sample may stand in a family of that kind.
func belongs(sample, family, kind string) bool {
	suffix, ok := strings.CutPrefix(sample, family)
	switch kind {
	case "histogram":
		return ok && slices.Contains([]string{"_bucket", "_sum", "_count"}, suffix)
	case "summary":
		return ok && slices.Contains([]string{"", "_sum", "_count"}, suffix)
	}
	return ok && suffix == ""
}

// checkBuckets checks a histogram that has no label but le.
func checkBuckets(name string, f *parsedFamily) error {
	byBound := map[float64]float64{}
	for series, v := range f.samples {
		le, ok := strings.CutPrefix(series, name+`_bucket{le="`)
		if !ok {
			continue
		}
		upper, err := strconv.ParseFloat(strings.TrimSuffix(le, `"}`), 64)
		if err != nil {
			return fmt.Errorf("%s: bound %q: %v", name, le, err)
		}
		byBound[upper] = v
	}
	last := 0.0
	for _, upper := range slices.Sorted(maps.Keys(byBound)) {
		if byBound[upper] < last {
			return fmt.Errorf("%s: bucket %v holds %v, the one before %v", name, upper, byBound[upper], last)
		}
		last = byBound[upper]
	}
	all, ok := byBound[math.Inf(1)]
	count, counted := f.samples[name+"_count"]
	if !ok || !counted || all != count {
		return fmt.Errorf("%s: +Inf bucket %v (there: %v), _count %v (there: %v)", name, all, ok, count, counted)
	}
	if _, ok := f.samples[name+"_sum"]; !ok {
		return fmt.Errorf("%s: no _sum", name)
	}
	return nil
}

// The parser decides most tests of the page, so it is shown that it refuses
// what it says it refuses: each row breaks one rule of the page above it.
func TestParserIsStrict(t *testing.T) {
	const good = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 1\na_total{x=\"\\\"2\"} 2\n" +
		"# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n"
	if _, err := parsePage([]byte(good)); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, old, new string }{
		{"no help", "# HELP a_total A.\n", ""},
		{"empty help", "# HELP a_total A.", "# HELP a_total "},
		{"help twice", "# HELP h H.\n", "# HELP a_total A.\n# HELP h H.\n"},
		{"no type", "# TYPE a_total counter\n", ""},
		{"type twice", "# TYPE h histogram\n", "# TYPE h histogram\n# TYPE h histogram\n"},
		{"type after samples", "# TYPE a_total counter\na_total{x=\"1\"} 1\n", "a_total{x=\"1\"} 1\n# TYPE a_total counter\n"},
		{"gauge with _total", "a_total counter", "a_total gauge"},
		{"series twice", `x="\"2"`, `x="1"`},
		{"open quote", `x="\"2"`, `x=""2"`},
		{"other family", "h_sum 3", "g_sum 3"},
		{"no value", "h_sum 3", "h_sum"},
		{"negative", "h_sum 3", "h_sum -3"},
		{"falling buckets", `{le="1"} 1`, `{le="1"} 3`},
		{"count is not +Inf", "h_count 2", "h_count 3"},
		{"no +Inf", `h_bucket{le="+Inf"} 2` + "\n", ""},
		{"no sum", "h_sum 3\n", ""},
		{"blank line", "# HELP h", "\n# HELP h"},
		{"no last newline", "h_count 2\n", "h_count 2"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bad := strings.Replace(good, tt.old, tt.new, 1)
			if bad == good {
				t.Fatalf("row changes nothing")
			}
			if _, err := parsePage([]byte(bad)); err == nil {
				t.Errorf("accepted:\n%s", bad)
			}
		})
	}
}
