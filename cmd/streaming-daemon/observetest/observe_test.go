package observetest_test

import (
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }

// Goal: whatever an operator looks at is true. Method: two daemons under a load of which the clients know every number,
// scraped by a real Prometheus and a real VictoriaMetrics with the shipped configuration; then every query of the
// README, every panel of the dashboard and every rule is asked of both, for a moment at which streams were held or for
// the one when all had ended, and must give what the clients saw.
func TestQueriesTellTheTruth(t *testing.T) {
	one := newInstance(t, "-demo-messages", strconv.Itoa(messages), "-demo-delay", "0")
	two := newInstance(t, "-demo-messages", "1000000", "-demo-delay", "1h", "-max-connections", "20")
	all := []*instance{one, two}
	dbs := map[string]*database{}
	for name := range programs {
		if _, err := exec.LookPath(name); err == nil {
			dbs[name] = startDatabase(t, name, []string{one.addr, two.addr})
		}
	}
	for _, db := range dbs { // counters that are first seen above zero have no rate for what was before
		db.await("count(daemon_connections_total == 0)", 2)
	}

	one.wholeStreams(40, 480*time.Millisecond)
	one.slowHandoffs(12, 300*time.Millisecond)
	two.leave(5)
	two.refused(3, `{"prompt":`, 400, "other")
	two.probes(2)
	finish, leave := one.holdPaused(6), two.holdEndless(20)
	two.refused(7, "", 503, "")
	two.AwaitMetric("daemon_active_connections", 20) // and no more of the refused ones

	for _, db := range dbs {
		for _, i := range all {
			db.await(`daemon_connections_total{instance="`+i.addr+`"}`, i.connections)
			db.await(`daemon_active_connections{instance="`+i.addr+`"}`, i.heldStreams)
			db.await(`daemon_paused_streams{instance="`+i.addr+`"}`, i.heldPaused)
		}
	}
	if db := dbs["prometheus"]; db != nil { // what it records comes after what it scrapes
		db.await(`instance:daemon_active_streams:ratio{instance="`+two.addr+`"}`, 1)
		db.await(`instance:daemon_paused_streams:ratio{instance="`+one.addr+`"}`, 1)
		db.await("count(instance:daemon_resident_memory_bytes:per_stream)", 2)
	}
	held := time.Now()
	checkStreams(t, one, two)
	finish()
	leave()
	for _, db := range dbs {
		db.await("sum(daemon_active_streams)", 0)
		db.await("sum(daemon_stream_duration_seconds_count)", float64(len(one.streams)+len(two.streams)))
	}
	over := time.Now()

	for name := range programs {
		t.Run(name, func(t *testing.T) {
			db := dbs[name]
			if db == nil {
				t.Skipf("%s is not on PATH (apt-get install %s): left out is every query against it", name, name)
			}
			w := newWorld(db, all, held, over)
			t.Run("counts", func(t *testing.T) { checkAll(t, w, same(counts), counts) })
			t.Run("README", func(t *testing.T) { checkAll(t, w, readmeQueries(t), readme) })
			t.Run("dashboard", func(t *testing.T) { checkAll(t, w, panelQueries(t), panels) })
			t.Run("rules", func(t *testing.T) { checkAll(t, w, ruleQueries(t), records) })
			t.Run("alerts", func(t *testing.T) { checkAlerts(t, w) })
			if name == "prometheus" {
				t.Run("recorded", func(t *testing.T) { checkRecorded(t, w) })
			}
		})
	}
}

// checkAll asks every query. One that nobody has said the answer of fails, and so does an answer without a query.
func checkAll(t *testing.T, w *world, queries map[string]string, truths map[string]truth) {
	for key, expr := range queries {
		tr, ok := truths[key]
		if !ok {
			t.Errorf("nobody has said what this must answer:\n%s\n%s", key, expr)
			continue
		}
		tr.check(t, w, expr)
	}
	for key := range truths {
		if queries[key] == "" {
			t.Errorf("there is no query %s; there are:\n%s", key, names(queries))
		}
	}
}

// same gives queries that are their own keys.
func same(truths map[string]truth) map[string]string {
	queries := map[string]string{}
	for expr := range truths {
		queries[expr] = expr
	}
	return queries
}
