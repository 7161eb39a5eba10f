package observetest_test

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"streaming-daemon-go/fdrecv/fdtest"
)

// promql is a fence of the README with queries in it: one per line, comments between them.
var promql = regexp.MustCompile("(?ms)^```promql\n(.*?)^```$")

// readmeQueries are the queries of the README, each by itself.
func readmeQueries(t testing.TB) map[string]string {
	queries := map[string]string{}
	for _, fence := range promql.FindAllSubmatch(readFile(t, "../../../README.md"), -1) {
		for line := range strings.Lines(string(fence[1])) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				queries[line] = line
			}
		}
	}
	if len(queries) == 0 {
		t.Fatal("the README has no queries")
	}
	return queries
}

// panelQueries are the queries of the dashboard, by title of the panel and letter of the query, as Grafana would ask
// them with one job and all instances chosen.
func panelQueries(t testing.TB) map[string]string {
	type panel struct {
		ID          int
		Title, Type string
		Description string
		Datasource  struct{ UID string }
		Targets     []struct {
			RefID, Expr string
			Datasource  struct{ UID string }
		}
	}
	var dashboard struct {
		UID, Title string
		Panels     []panel
		Templating struct{ List []struct{ Name string } }
	}
	if err := json.Unmarshal(readFile(t, filepath.Join(deploy, "grafana/streaming-daemon.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var variables []string
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name)
	}
	if !slices.Equal(variables, []string{"datasource", "job", "instance"}) || dashboard.UID == "" || dashboard.Title == "" {
		t.Errorf("variables %v of dashboard %q", variables, dashboard.UID)
	}
	fill := strings.NewReplacer("$job", "streaming-daemon", "$instance", ".*", "$__rate_interval", "5m")
	queries, ids := map[string]string{}, map[int]bool{}
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the id %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type == "row" {
			continue
		}
		if len(p.Targets) == 0 || p.Description == "" || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %q has no query, no description, or a data source of its own", p.Title)
		}
		for _, q := range p.Targets {
			key, expr := p.Title+"/"+q.RefID, fill.Replace(q.Expr)
			if queries[key] != "" || strings.Contains(expr, "$") || q.Datasource.UID != "${datasource}" {
				t.Errorf("%s: %s", key, expr)
			}
			queries[key] = expr
		}
	}
	return queries
}

// rule is a rule of a file.
type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
	For                 string
}

// readRules reads a file of rules.
func readRules(t testing.TB, name string) (rules []rule) {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string
			Rules []rule
		}
	}
	if err := yaml.Unmarshal(readFile(t, filepath.Join(deploy, "prometheus", name)), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		rules = append(rules, g.Rules...)
	}
	if len(rules) == 0 {
		t.Fatalf("no rules in %s", name)
	}
	return rules
}

// ruleQueries are the recording rules, by name.
func ruleQueries(t testing.TB) map[string]string {
	queries := map[string]string{}
	for _, r := range readRules(t, "streaming-daemon.rules.yml") {
		queries[r.Record] = r.Expr
	}
	return queries
}

// firing says on which instances (1, 2) the condition of an alert holds, while streams are held and when all is over.
var firing = map[string]struct{ held, over string }{
	"StreamingDaemonDown":            {"", ""},
	"StreamingDaemonAbsent":          {"", ""},
	"StreamingDaemonRejecting":       {"2", "2"}, // 10 of 37
	"StreamingDaemonNearlyFull":      {"2", ""},  // 20 of 20
	"StreamingDaemonHandoffErrors":   {"2", "2"}, // 3 of 37
	"StreamingDaemonStreamErrors":    {"", ""},
	"StreamingDaemonSlowClients":     {"", ""}, // all of one's, but six are few
	"StreamingDaemonEvicting":        {"", ""},
	"StreamingDaemonFDsNearLimit":    {"", ""},
	"StreamingDaemonDrainingTooLong": {"", ""},
	"StreamingDaemonRestarting":      {"", ""},
}

// checkAlerts asks for the condition of every alert. Recorded names are written out: VictoriaMetrics alone records
// nothing. How long a condition must hold is for promtool's tests.
func checkAlerts(t *testing.T, w *world) {
	expand := ruleQueries(t)
	for _, r := range readRules(t, "streaming-daemon.alerts.yml") {
		want, ok := firing[r.Alert]
		if !ok && r.Alert != "StreamingDaemonLoopLag" { // on a loaded machine it may well fire
			t.Errorf("nobody has said when %s fires", r.Alert)
			continue
		}
		expr := r.Expr
		for name, meaning := range expand {
			expr = strings.ReplaceAll(expr, name, "("+meaning+")")
		}
		for at, want := range map[time.Time]string{w.held: want.held, w.over: want.over} {
			samples, err := w.db.query(expr, at)
			var got string
			for n, i := range w.all {
				if slices.ContainsFunc(samples, func(s sample) bool { return s.labels["instance"] == i.addr }) {
					got += string(rune('1' + n))
				}
			}
			if err != nil || ok && (got != want || len(samples) != len(want)) {
				t.Errorf("%s: %s holds for %q, want %q (%v, %v)\n%s", w.db.name, r.Alert, got, want, samples, err, expr)
			}
		}
		if r.Labels["severity"] != "page" && r.Labels["severity"] != "ticket" || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s: labels %v, annotations %v", r.Alert, r.Labels, r.Annotations)
		}
	}
}

// checkRecorded: Prometheus itself has loaded the rules, evaluates them without a fault, and what it records is true.
func checkRecorded(t *testing.T, w *world) {
	for name, tr := range records {
		if !tr.held { // a rate that is recorded now and then is a moment older than the last scrape
			continue
		}
		tr.check(t, w, name)
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	want := len(readRules(t, "streaming-daemon.rules.yml")) + len(readRules(t, "streaming-daemon.alerts.yml"))
	fdtest.Eventually(t, "all rules to have been evaluated", func() bool {
		body, err := w.db.get("/api/v1/rules")
		if err != nil || json.Unmarshal(body, &answer) != nil {
			return false
		}
		n := 0
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if n++; r.Health != "ok" {
					return false
				}
			}
		}
		return n == want
	})
}
