package accesslog_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/accesslog"
	"streaming-daemon-go/fdrecv/fdtest"
)

// lines collects what is logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type fixture struct {
	*accesslog.Log
	path    string
	dropped atomic.Uint64
	told    lines
}

func open(t *testing.T, path string) *fixture {
	t.Helper()
	f := &fixture{path: path}
	var err error
	f.Log, err = accesslog.Open(accesslog.Config{Path: path, Dropped: &f.dropped, Log: slog.New(slog.NewTextHandler(&f.told, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func (f *fixture) add(id string) { f.Add(accesslog.Entry{RequestID: id}) }

// ids gives the request ids of a file's lines, in order.
func ids(t *testing.T, path string) (all []string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		_, rest, ok := strings.Cut(line, `"request_id":"`)
		id, _, ok2 := strings.Cut(rest, `"`)
		if !ok || !ok2 || !strings.HasSuffix(line, "}\n") {
			t.Fatalf("not a line: %q", line)
		}
		all = append(all, id)
	}
	return all
}

// Every line that was added before the end is in the file, in order, and what was there stays.
func TestWritesAll(t *testing.T) {
	fdtest.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "a.log")
	const n = 3000
	for run := range 2 {
		f := open(t, path)
		for i := range n {
			f.add(fmt.Sprint(run*n + i))
		}
		f.Close()
		if d := f.dropped.Load(); d != 0 {
			t.Fatalf("%d dropped", d)
		}
	}
	got := ids(t, path)
	if len(got) != 2*n {
		t.Fatalf("%d lines, want %d", len(got), 2*n)
	}
	for i, id := range got {
		if id != fmt.Sprint(i) {
			t.Fatalf("line %d is %s", i, id)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm()&0o027 != 0 {
		t.Errorf("mode %v, %v: user ids are not for everybody", info.Mode(), err)
	}
}

// Goal: a rotation loses no line: what comes after Reopen is in the new file. A path that cannot be opened costs nothing
// but a line in the log.
func TestReopen(t *testing.T) {
	fdtest.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "a.log")
	f := open(t, path)
	f.add("1")
	fdtest.Eventually(t, "the first line", func() bool { return len(ids(t, path)) == 1 })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	f.Reopen()
	fdtest.Eventually(t, "the new file", func() bool { _, err := os.Stat(path); return err == nil })
	f.add("2")
	fdtest.Eventually(t, "the second line", func() bool { return len(ids(t, path)) == 1 })

	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f.Reopen()
	fdtest.Eventually(t, "the complaint", func() bool { return strings.Contains(f.told.String(), "goes on to the old file") })
	f.add("3")
	f.Close()
	for name, want := range map[string]string{path + ".1": "[1]", path + ".2": "[2 3]"} {
		if got := fmt.Sprint(ids(t, name)); got != want {
			t.Errorf("%s has %s, want %s", name, got, want)
		}
	}
	if f.dropped.Load() != 0 {
		t.Errorf("%d dropped", f.dropped.Load())
	}
	f.Close() // twice is safe
	f.Reopen()
	f.add("late")
	if f.dropped.Load() != 1 {
		t.Errorf("%d dropped after the end, want 1", f.dropped.Load())
	}
}

// Goal: a reader that does not read holds nobody up, and every line is either written whole or counted. Method: the file
// is a pipe of the smallest size; far more is added than pipe and queue hold; then the pipe is read to its end.
func TestNobodyReads(t *testing.T) {
	fdtest.NoLeaks(t)
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if _, err := unix.FcntlInt(reader.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	const n = 20_000
	for i := range n {
		f.add(fmt.Sprint(i))
	}
	dropped := f.dropped.Load()
	if dropped < n-8000 || dropped >= n {
		t.Fatalf("%d of %d lines were dropped", dropped, n)
	}
	var all bytes.Buffer
	read := make(chan error)
	go func() {
		_, err := all.ReadFrom(reader) // to the end: the writer closes
		read <- err
	}()
	// The queue is finite and now there is a reader: it runs empty, then the end.
	f.Close()
	select {
	case err := <-read:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the pipe has no end")
	}
	if got := uint64(strings.Count(all.String(), "}\n")); got+dropped != n || f.dropped.Load() != dropped {
		t.Errorf("%d lines written and %d dropped of %d", got, dropped, n)
	}
}

// Close gives up on a reader that never reads.
func TestCloseDoesNotWaitForEver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, path)
	for i := range 2000 { // more than a pipe holds
		f.add(strings.Repeat("x", 200) + fmt.Sprint(i))
	}
	closed := make(chan struct{})
	go func() { f.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("Close waits for a reader that does not come")
	}
	_ = reader.Close() // EPIPE ends the goroutine
	f.Close()
}

// Goal: a full disk costs lines, which are counted and told of once, not once per write.
func TestFullDisk(t *testing.T) {
	fdtest.NoLeaks(t)
	f := open(t, "/dev/full")
	for range 500 {
		f.add("x")
	}
	f.Close()
	if f.dropped.Load() != 500 {
		t.Errorf("%d dropped, want 500", f.dropped.Load())
	}
	if told := f.told.String(); strings.Count(told, "\n") != 1 || !strings.Contains(told, "no space left") {
		t.Errorf("told: %q", told)
	}
}

// What cannot be opened is one line that names the path; a pipe that nobody reads is among it and does not hold up.
func TestOpenFails(t *testing.T) {
	fdtest.NoLeaks(t)
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "none", "a"), fifo, dir + "/a\nb/c"} {
		_, err := accesslog.Open(accesslog.Config{Path: path, Dropped: new(atomic.Uint64), Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", path)) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", path, err)
		}
	}
}
