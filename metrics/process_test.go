package metrics_test

import (
	"bytes"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"streaming-daemon-go/metrics"
)

// statLine is a line of /proc/<pid>/stat with field n holding n, and a name.
func statLine(name string) string {
	return "1 (" + name + ") S 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 2200 23000 24 25\n"
}

func TestParseStat(t *testing.T) {
	for _, name := range []string{"streaming-daemo", "a b", "a) S 1 (b", ""} {
		start, virtual, resident, err := metrics.ParseStat(statLine(name), 4096)
		if err != nil || start != 2200 || virtual != 23000 || resident != 24*4096 {
			t.Errorf("name %q: %d %d %d %v", name, start, virtual, resident, err)
		}
	}
	for _, bad := range []string{"", "1 (x", "1 (x) S 4 5", strings.Replace(statLine("x"), "23000", "2x", 1), strings.Replace(statLine("x"), "24", "-1", 1)} {
		if _, _, _, err := metrics.ParseStat(bad, 4096); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestParseBoot(t *testing.T) {
	boot, err := metrics.ParseBoot([]byte("cpu  1 2 3\nintr 5\nbtime 1700000000\nprocesses 9\n"))
	if err != nil || boot != 1700000000 {
		t.Errorf("%d %v", boot, err)
	}
	for _, bad := range []string{"", "cpu 1\n", "btime x\n", "xbtime 5\n"} {
		if _, err := metrics.ParseBoot([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// Both ways to count descriptors see ten more after ten were opened. The first
// way falls back to the second where the kernel is older than 6.2.
func TestDescriptorsAreCounted(t *testing.T) {
	for name, count := range map[string]func() (uint64, error){"stat": metrics.OpenFDs, "list": metrics.ListFDs} {
		t.Run(name, func(t *testing.T) {
			before, err := count()
			if err != nil {
				t.Fatal(err)
			}
			for range 10 {
				f, err := os.Open(os.DevNull)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
			}
			after, err := count()
			if err != nil || after != before+10 {
				t.Errorf("%d, then ten more opened: %d, %v", before, after, err)
			}
		})
	}
	stat, err1 := metrics.OpenFDs()
	list, err2 := metrics.ListFDs()
	if stat != list || err1 != nil || err2 != nil {
		t.Errorf("stat says %d (%v), the list %d (%v)", stat, err1, list, err2)
	}
}

// Each process and runtime number is held against an independent look at the
// same thing, taken right after the page and before it is parsed. 100,000 live
// objects and as many dead ones make what the test itself allocates small.
func TestProcessAndRuntimeValues(t *testing.T) {
	ballast := make([]*[256]byte, 200_000)
	for i := range ballast {
		ballast[i] = new([256]byte)
	}
	clear(ballast[:len(ballast)/2])
	debug.FreeOSMemory() // collects, so that there is a pause to tell of, and leaves the scavenger no work
	m := metrics.New(metrics.Build{}, fixed(metrics.Snapshot{}))
	var page bytes.Buffer
	m.WritePrometheus(&page)
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	runtime.KeepAlive(ballast)
	now := float64(time.Now().UnixNano()) / 1e9
	families, err := parsePage(page.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) float64 { return families[name].samples[name] }

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	near := func(name string, want, factor float64) {
		t.Helper()
		if got := value(name); got < want/factor || got > want*factor {
			t.Errorf("%s = %v, want about %v", name, got, want)
		}
	}
	near("process_max_fds", float64(limit.Cur), 1)
	near("go_sched_gomaxprocs_threads", float64(runtime.GOMAXPROCS(0)), 1)
	near("go_goroutines", float64(runtime.NumGoroutine()), 1)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	near("go_threads", float64(len(tasks)), 1.5)
	near("go_memstats_heap_alloc_bytes", float64(mem.HeapAlloc), 1.1)
	near("go_memstats_alloc_bytes", float64(mem.HeapAlloc), 1.1)
	near("go_memstats_alloc_bytes_total", float64(mem.TotalAlloc), 1.1)
	near("go_memstats_mallocs_total", float64(mem.Mallocs), 1.1)
	near("go_memstats_frees_total", float64(mem.Frees), 1.1)
	near("go_memstats_heap_objects", float64(mem.HeapObjects), 1.1)
	near("go_memstats_heap_sys_bytes", float64(mem.HeapSys), 1.1)
	near("go_memstats_heap_inuse_bytes", float64(mem.HeapInuse), 1.1)
	near("go_memstats_heap_idle_bytes", float64(mem.HeapIdle), 1.1)
	near("go_memstats_stack_inuse_bytes", float64(mem.StackInuse), 1.5)
	near("go_memstats_heap_released_bytes", float64(mem.HeapReleased)+1, 1.5)
	near("go_memstats_sys_bytes", float64(mem.Sys), 1.1)
	near("go_memstats_next_gc_bytes", float64(mem.NextGC), 1.1)
	near("go_memstats_last_gc_time_seconds", now, 1.000001) // within half an hour
	if n := families["go_gc_duration_seconds"].samples["go_gc_duration_seconds_count"]; n < 1 || n > float64(mem.NumGC) {
		t.Errorf("%v collections, the runtime knows of %d", n, mem.NumGC)
	}
	pauses := families["go_gc_duration_seconds"].samples
	if got, want := pauses["go_gc_duration_seconds_sum"], float64(mem.PauseTotalNs)/1e9; got < want/1.1 || got > want*1.1 {
		t.Errorf("paused for %v s, the runtime says %v", got, want)
	}
	if low, high := pauses[`go_gc_duration_seconds{quantile="0"}`], pauses[`go_gc_duration_seconds{quantile="1"}`]; low <= 0 || low > high {
		t.Errorf("shortest pause %v s, longest %v", low, high)
	}
	if value("go_gc_cpu_seconds_total") <= 0 {
		t.Error("a collection took no CPU time")
	}

	if start := value("process_start_time_seconds"); start > now+1 || start < now-3600 {
		t.Errorf("process started at %v, now is %v", start, now)
	}
	resident, virtual := value("process_resident_memory_bytes"), value("process_virtual_memory_bytes")
	if resident < 1<<20 || resident > virtual {
		t.Errorf("resident %v bytes, virtual %v", resident, virtual)
	}
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	spent := time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
	if cpu := value("process_cpu_seconds_total"); cpu <= 0 || cpu > spent || math.Abs(cpu-spent) > 1 {
		t.Errorf("CPU time %v s, later %v s", cpu, spent)
	}
}
