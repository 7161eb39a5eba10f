package target

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Sample is what /proc says of a process at one moment.
type Sample struct {
	At         time.Time     `json:"at"`
	CPU        time.Duration `json:"cpu_ns"`    // user and system, all threads, those that have ended included
	User       time.Duration `json:"user_ns"`   // of /proc/PID/stat: in steps of 10 ms
	System     time.Duration `json:"system_ns"` // the same
	RSS        int64         `json:"rss_bytes"`
	RSSPeak    int64         `json:"rss_peak_bytes"`
	FDs        int           `json:"fds"` // -1: not readable
	Threads    int           `json:"threads"`
	Voluntary  uint64        `json:"context_switches_voluntary"` // of the threads that live now
	Forced     uint64        `json:"context_switches_forced"`    // the same
	RunDelayed time.Duration `json:"run_delay_ns"`               // ready to run, but no CPU free; the same
}

// CPU is the processor time of all threads of the process so far, to the nanosecond: /proc/PID/stat has steps of
// 10 ms, and schedstat forgets threads that have ended.
func (p *Process) CPU() (time.Duration, error) {
	// clock_getcpuclockid(3): the PID inverted, then three bits, of which 2 asks for the scheduler's clock.
	clock := int32(^p.PID<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("target: CPU clock of process %d: %w", p.PID, err)
	}
	return time.Duration(t.Nano()), nil
}

// Sample reads everything: tens of microseconds, and some milliseconds for tens of thousands of descriptors.
func (p *Process) Sample() (Sample, error) {
	s := Sample{At: time.Now()}
	var err error
	if s.CPU, err = p.CPU(); err != nil {
		return s, err
	}
	proc := filepath.Join("/proc", strconv.Itoa(p.PID))
	if err := s.readStat(filepath.Join(proc, "stat")); err != nil {
		return s, err
	}
	status, err := readFields(filepath.Join(proc, "status"))
	if err != nil {
		return s, err
	}
	s.RSSPeak = kilobytes(status["VmHWM"])
	s.Threads = int(number(status["Threads"]))
	// status gives a figure that may be off by some dozen pages per CPU; the roll-up counts.
	if rollup, err := readFields(filepath.Join(proc, "smaps_rollup")); err == nil {
		s.RSS = kilobytes(rollup["Rss"])
	} else {
		s.RSS = kilobytes(status["VmRSS"])
	}
	s.RSSPeak = max(s.RSSPeak, s.RSS)
	s.FDs = countEntries(filepath.Join(proc, "fd"))
	s.readThreads(proc)
	return s, nil
}

// userHZ is the unit of /proc/PID/stat on every architecture that Go has for Linux.
const userHZ = 100

func (s *Sample) readStat(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("target: %w", err)
	}
	_, after, _ := strings.Cut(string(b), ") ") // the name may hold spaces
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return fmt.Errorf("target: %s has %d fields", path, len(fields))
	}
	s.User = time.Duration(number(fields[11])) * time.Second / userHZ // field 14 of proc_pid_stat(5)
	s.System = time.Duration(number(fields[12])) * time.Second / userHZ
	return nil
}

// readThreads sums what only the threads have. One that ends meanwhile is left out.
func (s *Sample) readThreads(proc string) {
	tasks, _ := filepath.Glob(filepath.Join(proc, "task", "*"))
	for _, task := range tasks {
		if status, err := readFields(filepath.Join(task, "status")); err == nil {
			s.Voluntary += uint64(number(status["voluntary_ctxt_switches"]))
			s.Forced += uint64(number(status["nonvoluntary_ctxt_switches"]))
		}
		if b, err := os.ReadFile(filepath.Join(task, "schedstat")); err == nil {
			if f := strings.Fields(string(b)); len(f) > 1 {
				s.RunDelayed += time.Duration(number(f[1]))
			}
		}
	}
}

// readFields reads lines of "name: value".
func readFields(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	defer func() { _ = f.Close() }()
	fields := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok {
			fields[name] = strings.TrimSpace(value)
		}
	}
	return fields, lines.Err()
}

// number is 0 for what is none: a field that this kernel does not have.
func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func kilobytes(s string) int64 { return number(strings.TrimSuffix(s, " kB")) << 10 }

func countEntries(dir string) int {
	d, err := os.Open(dir)
	if err != nil {
		return -1
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return -1
	}
	return len(names)
}
