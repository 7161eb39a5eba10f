package observetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
	"streaming-daemon-go/fdrecv/fdtest"
)

// patience bounds every wait: far beyond what a loaded machine needs under the race detector.
const patience = 30 * time.Second

// deploy is where the files that operators get are.
const deploy = "../../../deploy"

// client keeps no connection to what a test will end.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

// database is a running Prometheus or VictoriaMetrics.
type database struct {
	t    testing.TB
	name string
	base string // URL
}

// program is how to run a database.
type program struct {
	ready string // path that answers 200 once it is up
	args  func(addr, config, dir string) []string
}

// programs are the databases that the queries are asked of, by the name of their executable.
var programs = map[string]program{
	"prometheus": {"/-/ready", func(addr, config, dir string) []string {
		return []string{"--config.file=" + config, "--storage.tsdb.path=" + dir, "--web.listen-address=" + addr, "--log.level=warn"}
	}},
	"victoria-metrics": {"/health", func(addr, config, dir string) []string {
		return []string{
			"-promscrape.config=" + config, "-promscrape.config.strictParse=false", "-storageDataPath=" + dir,
			"-httpListenAddr=" + addr, "-loggerLevel=ERROR",
			"-search.latencyOffset=0s", // by default the last 30 s are not asked for
			"-storage.minFreeDiskSpaceBytes=0",
		}
	}},
}

// startDatabase runs one of the programs, with the shipped configuration, until the end of the test. They cannot choose
// a port by themselves: one that somebody else was faster to take is tried again with another.
func startDatabase(t testing.TB, name string, targets []string) *database {
	t.Helper()
	dir := daemontest.Dir(t)
	config := scrapeConfig(t, dir, targets)
	var log string
	for range 5 {
		db := &database{t: t, name: name, base: "http://" + freeAddr(t)}
		if log = db.run(config, filepath.Join(dir, "data")); log == "" {
			return db
		}
	}
	t.Fatalf("%s does not start:\n%s", name, log)
	return nil
}

// run starts the program and waits until it is ready; otherwise it gives what it wrote.
func (db *database) run(config, dir string) (failed string) {
	p := programs[db.name]
	var log strings.Builder
	ctx, cancel := context.WithTimeout(context.Background(), 3*patience) // ends it even if the test hangs
	cmd := exec.CommandContext(ctx, db.name, p.args(strings.TrimPrefix(db.base, "http://"), config, dir)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		db.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // killed at the end: there is nothing to keep
	}()
	end := func() {
		cancel()
		<-exited
	}
	over := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(over) {
		select {
		case <-exited:
			cancel()
			return db.name + " ended: " + log.String()
		case <-tick.C:
		}
		if _, err := db.get(p.ready); err == nil {
			db.t.Cleanup(end)
			return ""
		}
	}
	end()
	return db.name + " is not ready: " + log.String()
}

// scrapeConfig is the shipped configuration with other targets, and a shorter interval: nothing else is changed.
func scrapeConfig(t testing.TB, dir string, targets []string) string {
	t.Helper()
	text := string(readFile(t, filepath.Join(deploy, "prometheus/prometheus.yml")))
	rules, err := filepath.Abs(filepath.Join(deploy, "prometheus"))
	if err != nil {
		t.Fatal(err)
	}
	for was, is := range map[string]string{
		`["127.0.0.1:9090"]`:           `["` + strings.Join(targets, `","`) + `"]`,
		"scrape_interval: 15s":         "scrape_interval: 500ms",
		"evaluation_interval: 15s":     "evaluation_interval: 500ms",
		"  - streaming-daemon.rules":   "  - " + rules + "/streaming-daemon.rules",
		"  - streaming-daemon.alerts.": "  - " + rules + "/streaming-daemon.alerts.",
	} {
		if strings.Count(text, was) != 1 {
			t.Fatalf("%q is not in prometheus.yml once", was)
		}
		text = strings.Replace(text, was, is, 1)
	}
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// freeAddr is a loopback address that nobody listens on now.
func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// get gives the body of a 200.
func (db *database) get(path string) ([]byte, error) {
	response, err := client.Get(db.base + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	return body, err
}

// sample is one series of an answer.
type sample struct {
	labels map[string]string
	value  float64
}

// query asks for a moment. Both programs speak the same HTTP API.
func (db *database) query(expr string, at time.Time) ([]sample, error) {
	body, err := db.get("/api/v1/query?" + url.Values{
		"query": {expr}, "time": {fmt.Sprintf("%.3f", float64(at.UnixMilli())/1000)}, "nocache": {"1"},
	}.Encode())
	if err != nil {
		return nil, err
	}
	var answer struct {
		Data struct {
			ResultType string
			Result     []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("%w: %s", err, body)
	}
	if answer.Data.ResultType != "vector" {
		return nil, fmt.Errorf("result type %q: %s", answer.Data.ResultType, body)
	}
	var samples []sample
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, body)
		}
		if !math.IsNaN(v) { // neither is drawn, nor does either fire an alert
			samples = append(samples, sample{r.Metric, v})
		}
	}
	return samples, nil
}

// one is the value of a query with exactly one series.
func (db *database) one(expr string, at time.Time) float64 {
	db.t.Helper()
	samples, err := db.query(expr, at)
	if err != nil || len(samples) != 1 {
		db.t.Fatalf("%s: %s: %v, %v", db.name, expr, samples, err)
	}
	return samples[0].value
}

// await waits until a query has the value, now.
func (db *database) await(expr string, want float64) {
	db.t.Helper()
	fdtest.Eventually(db.t, fmt.Sprintf("%s to say that %s is %v", db.name, expr, want), func() bool {
		samples, err := db.query(expr, time.Now())
		return err == nil && len(samples) == 1 && samples[0].value == want
	})
}
