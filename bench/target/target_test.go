package target_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/bench/target"
	"streaming-daemon-go/fdrecv/fdtest"
)

func self(t *testing.T) *target.Process {
	t.Helper()
	p, err := target.Attach(os.Getpid(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func ownCPU(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// The CPU clock of a process, reached by its number, is the time that the process itself is told: it lies between two
// readings of getrusage, and grows with work.
func TestCPUIsThatOfTheProcess(t *testing.T) {
	p := self(t)
	last := time.Duration(0)
	for range 20 {
		before := ownCPU(t)
		for until := before + 5*time.Millisecond; ownCPU(t) < until; {
		}
		cpu, err := p.CPU()
		if err != nil {
			t.Fatal(err)
		}
		after := ownCPU(t)
		const granularity = 20 * time.Millisecond // getrusage is brought up to date at a tick, 100 Hz at the least
		if cpu < before-granularity || cpu > after+granularity || cpu <= last {
			t.Errorf("CPU %v, getrusage %v before and %v after, last reading %v", cpu, before, after, last)
		}
		last = cpu
	}
}

// A sample sees what this process has just done to itself: descriptors opened, memory touched.
func TestSampleSeesTheProcess(t *testing.T) {
	p := self(t)
	before, err := p.Sample()
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	touched, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	a, b := fdtest.SocketPair(t, unix.SOCK_STREAM)
	after, err := p.Sample()
	if err != nil {
		t.Fatal(err)
	}
	if after.FDs != before.FDs+2 {
		t.Errorf("%d descriptors, then %d after two more", before.FDs, after.FDs)
	}
	if grown := after.RSS - before.RSS; grown < size*9/10 || grown > size*11/10 {
		t.Errorf("RSS grew by %d bytes for %d", grown, size)
	}
	if after.RSSPeak < after.RSS || after.Threads < 1 || after.Voluntary+after.Forced == 0 {
		t.Errorf("%+v", after)
	}
	if err := errors.Join(a.Close(), b.Close(), unix.Munmap(touched)); err != nil {
		t.Fatal(err)
	}
}

func TestAttachToNobody(t *testing.T) {
	if _, err := target.Attach(1<<22+1, "", ""); !errors.Is(err, unix.ESRCH) { // above the kernel's largest PID
		t.Errorf("%v, want ESRCH", err)
	}
}

// A target that ends at start is an error at once, with what it printed.
func TestStartReportsWhyATargetEnded(t *testing.T) {
	fdtest.NoLeaks(t)
	script := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho cannot listen: $2\nexit 3\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err := target.Start(t.Context(), target.Spec{Name: "bad", Path: script}, t.TempDir(), target.Demo{})
	if err == nil || !strings.Contains(err.Error(), "cannot listen") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v: the end was not noticed, only the patience", took)
	}
}

func TestSyscallsAreRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "strace")
	table := "    calls syscall\n--------- ----------------\n      190 sendto\n       10 epoll_pwait2\n--------- ----------------\n      200 total\n"
	if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
		t.Fatal(err)
	}
	calls, err := target.Syscalls(path)
	if err != nil || len(calls) != 2 || calls["sendto"] != 190 || calls["epoll_pwait2"] != 10 {
		t.Errorf("%v, %v", calls, err)
	}
}
