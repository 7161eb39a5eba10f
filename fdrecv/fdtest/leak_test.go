package fdtest_test

import (
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv/fdtest"
)

// A leak must be named: the list differs by exactly the descriptor that was opened.
func TestOpenFDsSeesOneMore(t *testing.T) {
	before := fdtest.OpenFDs(t)
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	after := fdtest.OpenFDs(t)
	if len(after) != len(before)+1 {
		t.Errorf("%d descriptors, want %d", len(after), len(before)+1)
	}
	if !strings.Contains(strings.Join(after, "\n"), os.DevNull) {
		t.Errorf("%s is not in %q", os.DevNull, after)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if now := fdtest.OpenFDs(t); strings.Join(now, "\n") != strings.Join(before, "\n") {
		t.Errorf("after the close: %q, before: %q", now, before)
	}
}

// recorder is a testing.TB that keeps its cleanups and failures to itself.
type recorder struct {
	testing.TB
	cleanups []func()
	failed   bool
}

func (r *recorder) Cleanup(f func())      { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(string, ...any) { r.failed = true }

// NoLeaks has to fail for a descriptor that stays and to pass for one that goes.
func TestNoLeaks(t *testing.T) {
	defer fdtest.SetPatience(50 * time.Millisecond)()
	for _, leak := range []bool{false, true} {
		r := &recorder{TB: t}
		fdtest.NoLeaks(r)
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if !leak {
			_ = f.Close()
		}
		for _, c := range r.cleanups {
			c()
		}
		if r.failed != leak {
			t.Errorf("leak %t: failed %t", leak, r.failed)
		}
		if leak {
			_ = f.Close()
		}
	}
}

func TestPairsAreConnected(t *testing.T) {
	fdtest.NoLeaks(t)
	server, client := fdtest.TCPPair(t)
	defer server.Close()
	if _, err := unix.Write(server.Int(), []byte("x")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	if _, err := io.ReadFull(client, got); err != nil || got[0] != 'x' {
		t.Fatalf("read %q, %v", got, err)
	}
}
