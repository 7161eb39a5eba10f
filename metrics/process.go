package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"syscall"
)

// ticksPerSecond is the unit of the times in /proc/<pid>/stat: USER_HZ, which
// is 100 on every Linux that Go runs on (proc_pid_stat(5); the kernel's own HZ
// does not show there).
const ticksPerSecond = 100

// writeProcess writes the process_* families. What the kernel does not tell is
// left out, family and all: a 0 would be believed.
func (m *Metrics) writeProcess(p *page) {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		// Not from /proc/self/stat: there it is counted in steps of 10 ms.
		cpu := seconds(usage.Utime) + seconds(usage.Stime)
		one(p, "process_cpu_seconds_total", counter, "CPU time of the process, user and system.", cpu)
	}
	if stat, err := readStat(); err == nil {
		one(p, "process_resident_memory_bytes", gauge, "Memory of the process that is in RAM.", stat.residentBytes)
		one(p, "process_virtual_memory_bytes", gauge, "Address space of the process.", stat.virtualBytes)
	}
	if m.startSeconds > 0 {
		one(p, "process_start_time_seconds", gauge, "When the process started, Unix time.", m.startSeconds)
	}
	if n, err := openFDs(); err == nil {
		one(p, "process_open_fds", gauge, "Open file descriptors, client sockets included.", n)
	}
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		one(p, "process_max_fds", gauge, "Open file descriptors at most: the soft limit in force.", limit.Cur)
	}
}

func seconds(tv syscall.Timeval) float64 { return float64(tv.Sec) + float64(tv.Usec)/1e6 }

// procStat is what is used of /proc/self/stat.
type procStat struct {
	startTicks    uint64 // since boot
	virtualBytes  uint64
	residentBytes uint64
}

func readStat() (procStat, error) {
	data, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return procStat{}, err
	}
	return parseStat(data, uint64(os.Getpagesize()))
}

// parseStat reads the one line of /proc/<pid>/stat (proc_pid_stat(5)). The
// second field is the program's name in parentheses, which may itself hold
// spaces and parentheses: the last one ends it, and field 3 follows.
func parseStat(data []byte, pageBytes uint64) (procStat, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return procStat{}, errors.New("metrics: /proc/self/stat: no program name")
	}
	fields := bytes.Fields(data[end+1:])
	const first = 3 // the number, in proc_pid_stat(5), of fields[0]
	var s procStat
	var pages uint64
	for _, f := range []struct {
		number int
		into   *uint64
	}{{22, &s.startTicks}, {23, &s.virtualBytes}, {24, &pages}} {
		if f.number-first >= len(fields) {
			return procStat{}, fmt.Errorf("metrics: /proc/self/stat: no field %d", f.number)
		}
		n, err := strconv.ParseUint(string(fields[f.number-first]), 10, 64)
		if err != nil {
			return procStat{}, fmt.Errorf("metrics: /proc/self/stat: field %d: %w", f.number, err)
		}
		*f.into = n
	}
	s.residentBytes = pages * pageBytes
	return s, nil
}

// processStart returns when the process started as Unix time in seconds, or 0
// when the kernel does not say. It is read once: the boot time below moves
// when the clock is set, and Prometheus takes a start time that moves for a
// restart.
func processStart() float64 {
	stat, err := readStat()
	if err != nil {
		return 0
	}
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	boot, err := parseBoot(data)
	if err != nil {
		return 0
	}
	return float64(boot) + float64(stat.startTicks)/ticksPerSecond
}

// parseBoot finds the boot time, Unix time in seconds, in /proc/stat
// (proc_stat(5)).
func parseBoot(data []byte) (uint64, error) {
	for line := range bytes.Lines(data) {
		if value, ok := bytes.CutPrefix(line, []byte("btime ")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 64)
		}
	}
	return 0, errors.New("metrics: /proc/stat: no btime")
}

// openFDs returns how many descriptors the process has open. Since Linux 6.2
// the size of /proc/self/fd is that number (proc_pid_fd(5)): one stat, where
// listing 50,000 entries at each scrape would cost tens of milliseconds.
func openFDs() (uint64, error) {
	info, err := os.Stat("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	if info.Size() > 0 {
		return uint64(info.Size()), nil
	}
	return listFDs()
}

// listFDs counts the entries of /proc/self/fd, for older kernels, in steps: no
// list of a million names is ever in memory.
func listFDs() (uint64, error) {
	const step = 1024 // names at a time
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	var n uint64
	for {
		names, err := dir.Readdirnames(step)
		n += uint64(len(names))
		if errors.Is(err, io.EOF) {
			return n - 1, nil // without dir's own
		}
		if err != nil {
			return 0, err
		}
	}
}
