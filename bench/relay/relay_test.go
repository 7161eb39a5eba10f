package relay_test

import (
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/bench/relay"
	"streaming-daemon-go/bench/scenario"
	"streaming-daemon-go/bench/target"
)

func must(t *testing.T, build func(string) (target.Spec, error), dir string) target.Spec {
	t.Helper()
	spec, err := build(dir)
	if err != nil {
		t.Fatal(err)
	}
	return spec
}

// Goal: a run of everything, small: each stream is relayed whole by both contestants over both transports, nothing is
// left, and every figure is measured.
func TestPlay(t *testing.T) {
	dir := t.TempDir()
	daemon, goroutines, mock := must(t, target.BuildDaemon, dir), must(t, target.BuildGoroutines, dir), must(t, target.BuildMock, dir)
	for transport, streams := range map[relay.Transport]int{relay.H1: 150, relay.H2: 300} {
		t.Run(string(transport), func(t *testing.T) {
			runs, err := relay.Play(t.Context(), relay.Config{
				Daemon: daemon, Goroutines: goroutines, Mock: mock, Streams: map[relay.Transport]int{transport: streams},
				Rounds: 1, Duration: time.Second, Delay: 100 * time.Millisecond, Rate: 2000, Goroutined: true, CancelTries: true,
			}, func(scenario.Progress) {}, func(relay.Run) {})
			if err != nil {
				t.Fatal(err)
			}
			if len(runs) != 2 {
				t.Fatalf("%d runs", len(runs))
			}
			for _, r := range runs {
				checkRun(t, r)
			}
		})
	}
}

func checkRun(t *testing.T, r relay.Run) {
	if r.Failed() {
		t.Errorf("%s: %+v, descriptors %+v, %q", r.Contestant, r.Result.Clients, r.Result.FDs, r.Result.Warnings)
	}
	if o := r.Result.Options; r.Result.Clients.Events != uint64(o.Streams*o.Messages) {
		t.Errorf("%s: %d events for %d streams of %d", r.Contestant, r.Result.Clients.Events, o.Streams, o.Messages)
	}
	if len(r.Cancels) == 0 || r.Cancels[0] < 0 || r.Upstream == 0 || r.Result.Window.CPU == 0 || r.Result.Lateness.Count == 0 {
		t.Errorf("%s: something was not measured: %+v", r.Contestant, r)
	}
	if known := r.GoroutinesIdle > 0 && r.GoroutinesFull > 0; known != (r.Contestant == relay.DaemonName) {
		t.Errorf("%s: %d goroutines, then %d", r.Contestant, r.GoroutinesIdle, r.GoroutinesFull)
	}
}

// run makes one with the figures that bars are held against.
func run(contestant string, t relay.Transport, cpu time.Duration, memory int64, goroutines int, cancel time.Duration) relay.Run {
	result := &scenario.Result{Options: scenario.Options{Streams: 1000}, Clients: scenario.Clients{Finished: 1000}}
	result.Window.Events, result.Window.CPU = 1000, 1000*cpu
	result.Memory.Full, result.Memory.Streams = memory*1000, 1000
	return relay.Run{Round: 1, Transport: t, Contestant: contestant, Result: result, GoroutinesIdle: 10, GoroutinesFull: 10 + goroutines,
		Cancels: []time.Duration{time.Microsecond, cancel}}
}

// Each bar must turn to "no" just past it, and only that one.
func TestBars(t *testing.T) {
	const us, ms = time.Microsecond, time.Millisecond
	other := run("goroutines", relay.H2, 100*us, 0, 0, 0)
	other1 := run("goroutines", relay.H1, 100*us, 0, 0, 0)
	short := run("daemon", relay.H2, 50*us, 0, 0, 0)
	short.Result.Clients.Finished--
	for _, tt := range []struct {
		name   string
		runs   []relay.Run
		failed string // the start of the bar's name behind its colon; "": none
	}{
		{"at every bar", []relay.Run{run("daemon", relay.H2, 50*us, 2560, 20, 50*ms), other}, ""},
		{"at every bar of h1", []relay.Run{run("daemon", relay.H1, 50*us, 2560, 0, 50*ms), other1}, ""},
		{"CPU", []relay.Run{run("daemon", relay.H2, 51*us, 0, 0, 0), other}, "CPU"},
		{"memory", []relay.Run{run("daemon", relay.H2, 0, 2561, 0, 0), other}, "memory"},
		{"goroutines", []relay.Run{run("daemon", relay.H2, 0, 0, 21, 0), other}, "goroutines"},
		{"goroutines of h1", []relay.Run{run("daemon", relay.H1, 0, 0, 1, 0), other1}, "goroutines"},
		{"cancel", []relay.Run{run("daemon", relay.H2, 0, 0, 0, 51*ms), other}, "client gone"},
		{"a stream", []relay.Run{short, other}, "runs with"},
		{"the median counts", []relay.Run{run("daemon", relay.H2, 40*us, 0, 0, 0), run("daemon", relay.H2, 45*us, 0, 0, 0),
			run("daemon", relay.H2, 90*us, 0, 0, 0), other}, ""},
	} {
		rows := relay.Judged(tt.runs)
		if len(rows) != 5 {
			t.Fatalf("%s: %q", tt.name, rows)
		}
		for _, row := range rows {
			_, what, _ := strings.Cut(row[0], ": ")
			wrong := tt.failed != "" && strings.HasPrefix(what, tt.failed)
			if (row[3] == "no") != wrong {
				t.Errorf("%s: %q", tt.name, row)
			}
		}
	}
}

func TestTableHasEveryRun(t *testing.T) {
	var b strings.Builder
	relay.Table(&b, []relay.Run{run("daemon", relay.H2, 12345*time.Nanosecond, 777, 3, time.Millisecond), run("goroutines", relay.H2, time.Millisecond, 1, 0, 0)})
	for _, want := range []string{"12.35 µs", "777 B", "10 to 13", "goroutines", "1000.00 µs", "CPU per event, times that of net/http"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}
