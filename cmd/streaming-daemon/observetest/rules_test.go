package observetest_test

import (
	"os/exec"
	"path/filepath"
	"testing"

	yaml "go.yaml.in/yaml/v4"
)

// promtool runs Prometheus's own judge on the shipped files.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not on PATH (apt-get install prometheus has it): left out are its checks of the configuration and the rules")
	}
	cmd := exec.Command("promtool", args...)
	cmd.Dir = filepath.Join(deploy, "prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestPromtoolChecks(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "rules", "streaming-daemon.rules.yml", "streaming-daemon.alerts.yml")
}

func TestPromtoolTestsRules(t *testing.T) { promtool(t, "test", "rules", "streaming-daemon.test.yml") }

// Every alert has a promtool test in which it fires and one in which it does not.
func TestEveryAlertIsTested(t *testing.T) {
	var file struct {
		Tests []struct {
			Alerts []struct {
				Alertname string
				Exp       []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(readFile(t, filepath.Join(deploy, "prometheus/streaming-daemon.test.yml")), &file); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			if len(a.Exp) > 0 {
				fires[a.Alertname] = true
			} else {
				quiet[a.Alertname] = true
			}
		}
	}
	for _, r := range readRules(t, "streaming-daemon.alerts.yml") {
		if !fires[r.Alert] || !quiet[r.Alert] {
			t.Errorf("%s: tested to fire: %t; not to: %t", r.Alert, fires[r.Alert], quiet[r.Alert])
		}
	}
}
