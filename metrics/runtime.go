package metrics

import (
	"runtime"
	"runtime/debug"
	rtm "runtime/metrics"
	"strconv"
	"time"
)

// runtimeFamily is a go_* family that is a sum of runtime/metrics samples. The
// names are the ones that Go dashboards know from the Prometheus client.
type runtimeFamily struct {
	name string
	kind kind
	help string
	from []string // runtime/metrics names, all uint64, added up
}

var runtimeFamilies = []runtimeFamily{
	{"go_threads", gauge, "Threads of the operating system that the runtime owns now.", []string{"/sched/threads/total:threads"}},
	{"go_sched_gomaxprocs_threads", gauge, "GOMAXPROCS: threads that run Go code at once, at most.", []string{"/sched/gomaxprocs:threads"}},
	{"go_gc_gogc_percent", gauge, "GOGC: heap growth, in percent, that starts a collection.", []string{"/gc/gogc:percent"}},
	{"go_gc_gomemlimit_bytes", gauge, "GOMEMLIMIT: the runtime's soft memory limit.", []string{"/gc/gomemlimit:bytes"}},
	{"go_memstats_alloc_bytes", gauge, "Bytes in heap objects, dead ones not yet swept included.", []string{"/memory/classes/heap/objects:bytes"}},
	{"go_memstats_alloc_bytes_total", counter, "Bytes allocated for heap objects since the start.", []string{"/gc/heap/allocs:bytes"}},
	{"go_memstats_mallocs_total", counter, "Heap objects allocated since the start.", []string{"/gc/heap/allocs:objects", "/gc/heap/tiny/allocs:objects"}},
	{"go_memstats_frees_total", counter, "Heap objects freed since the start.", []string{"/gc/heap/frees:objects", "/gc/heap/tiny/allocs:objects"}},
	{"go_memstats_heap_alloc_bytes", gauge, "The same as go_memstats_alloc_bytes.", []string{"/memory/classes/heap/objects:bytes"}},
	{"go_memstats_heap_objects", gauge, "Heap objects, live or not yet swept.", []string{"/gc/heap/objects:objects"}},
	{"go_memstats_heap_inuse_bytes", gauge, "Bytes in heap spans that hold objects.", []string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes"}},
	{"go_memstats_heap_idle_bytes", gauge, "Bytes in heap spans that hold nothing.", []string{"/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes"}},
	{"go_memstats_heap_released_bytes", gauge, "Idle heap bytes given back to the operating system.", []string{"/memory/classes/heap/released:bytes"}},
	{"go_memstats_heap_sys_bytes", gauge, "Bytes of address space for the heap.", []string{"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes", "/memory/classes/heap/released:bytes"}},
	{"go_memstats_stack_inuse_bytes", gauge, "Bytes in goroutine stacks.", []string{"/memory/classes/heap/stacks:bytes"}},
	{"go_memstats_sys_bytes", gauge, "Bytes of memory mapped by the runtime, for any use.", []string{"/memory/classes/total:bytes"}},
	{"go_memstats_next_gc_bytes", gauge, "Heap size at which the next collection aims to end.", []string{"/gc/heap/goal:bytes"}},
}

// gcCPU is the one float64 among the samples.
const gcCPU = "/cpu/classes/gc/total:cpu-seconds"

// writeRuntime writes the go_* families. It does not stop the world:
// runtime.ReadMemStats would, for a page that is asked for every few seconds
// while the loops have deadlines to meet.
func writeRuntime(p *page) {
	values := readRuntime()
	p.family("go_info", gauge, "Which Go runs; the value is always 1.")
	sample(p, "go_info", int64(1), label{"version", runtime.Version()})
	// Not /sched/goroutines:goroutines: since Go 1.26 that counts the runtime's
	// own as well, and the number to compare with is that of the loops.
	one(p, "go_goroutines", gauge, "Goroutines that exist now, without the runtime's own.", int64(runtime.NumGoroutine()))
	for _, f := range runtimeFamilies {
		var sum uint64
		known := true
		for _, name := range f.from {
			v := values[name]
			known = known && v.Kind() == rtm.KindUint64
			if known {
				sum += v.Uint64()
			}
		}
		if known { // a sample that a later Go dropped is left out: a 0 would be believed
			one(p, f.name, f.kind, f.help, sum)
		}
	}
	if v := values[gcCPU]; v.Kind() == rtm.KindFloat64 {
		one(p, "go_gc_cpu_seconds_total", counter, "CPU time spent in garbage collection, as the runtime estimates it.", v.Float64())
	}
	writePauses(p)
}

// readRuntime reads all samples in one call, so that they are of one instant.
func readRuntime() map[string]rtm.Value {
	values := map[string]rtm.Value{gcCPU: {}}
	for _, f := range runtimeFamilies {
		for _, name := range f.from {
			values[name] = rtm.Value{}
		}
	}
	samples := make([]rtm.Sample, 0, len(values))
	for name := range values {
		samples = append(samples, rtm.Sample{Name: name})
	}
	rtm.Read(samples)
	for _, s := range samples {
		values[s.Name] = s.Value
	}
	return values
}

// writePauses writes the pauses of the collector. It is a summary, as in every
// Go program: debug.ReadGCStats knows the exact sum, which the histogram of
// runtime/metrics does not.
func writePauses(p *page) {
	quantiles := [...]float64{0, 0.25, 0.5, 0.75, 1}
	stats := debug.GCStats{PauseQuantiles: make([]time.Duration, len(quantiles))}
	debug.ReadGCStats(&stats)
	const name = "go_gc_duration_seconds"
	p.family(name, summary, "Pauses of the garbage collector; quantiles over the last 256 or fewer.")
	for i, q := range quantiles {
		sample(p, name, stats.PauseQuantiles[i].Seconds(), label{"quantile", strconv.FormatFloat(q, 'g', -1, 64)})
	}
	sample(p, name+"_sum", stats.PauseTotal.Seconds())
	sample(p, name+"_count", uint64(stats.NumGC))

	var last float64
	if !stats.LastGC.IsZero() && stats.NumGC > 0 {
		last = float64(stats.LastGC.UnixNano()) / 1e9
	}
	one(p, "go_memstats_last_gc_time_seconds", gauge, "When the last collection ended, Unix time; 0 before the first.", last)
}
