package upgrade_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/upgrade"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// role is set in the environment of a successor: what it is to do.
const role = "UPGRADE_TEST_ROLE"

func TestMain(m *testing.M) {
	switch r := os.Getenv(role); r {
	case "":
		os.Exit(m.Run())
	case "good":
		os.Exit(succeed())
	default:
		misbehave(r)
	}
}

// succeed is a successor that takes over, and ends when its predecessor has.
func succeed() int {
	p, err := upgrade.Inherit()
	if err != nil {
		return 1
	}
	s, ok := p.Take("stream", "/a")
	if !ok {
		p.Fail(errors.New("no socket"))
		return 1
	}
	if err := p.Ready(context.Background()); err != nil {
		return 1
	}
	p.Accepting(func(b json.RawMessage) {
		_, _ = unix.Write(s.FD.Int(), b) // the socket that was handed over is how the test hears of it
	})
	<-p.Released()
	p.Stop()
	<-p.Gone()
	return 0
}

// misbehave says, on the descriptor of the channel, the packets in r one after the other, and does what the words
// between them say.
func misbehave(r string) {
	for _, word := range strings.Split(r, ";") {
		switch word {
		case "wait":
			select {}
		case "descriptors":
			var all []string
			entries, _ := os.ReadDir("/proc/self/fd")
			for _, e := range entries {
				if target, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(target, "/sys/fs/cgroup") {
					all = append(all, e.Name()+" "+target)
				}
			}
			b, _ := json.Marshal(map[string]string{"kind": "failed", "reason": strings.Join(all, ", ") + " env " + strings.Join(os.Environ(), " ")})
			_, _ = unix.Write(3, b)
		default:
			_, _ = unix.Write(3, []byte(word))
		}
	}
	os.Exit(7)
}

func program(t *testing.T, r string) upgrade.Program {
	t.Helper()
	p, err := upgrade.Self()
	if err != nil {
		t.Fatal(err)
	}
	p.Env = append(p.Env, role+"="+r, "LISTEN_PID=1", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b", "WATCHDOG_PID=1", "WATCHDOG_USEC=5")
	return p
}

// What Start hands over arrives, and what is said afterwards, too; descriptors that are lent stay the caller's.
func TestStart(t *testing.T) {
	fdtest.NoLeaks(t)
	ours, theirs := fdtest.SocketPair(t, unix.SOCK_SEQPACKET)
	defer ours.Close()
	defer theirs.Close()
	s, err := upgrade.Start(context.Background(), program(t, "good"),
		[]upgrade.Socket{{Name: "other", Address: "/b", FD: theirs}, {Name: "stream", Address: "/a", FD: theirs}}, patience)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Stopped():
		t.Fatal("stopped before it was released")
	default:
	}
	if err := s.Release(map[string]int{"n": 1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Count(map[string]int{"n": 2}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`{"n":1}`, `{"n":2}`} {
		b := make([]byte, 100)
		n, err := unix.Read(ours.Int(), b)
		if err != nil || string(b[:n]) != want {
			t.Errorf("the successor has the counts %q, %v, want %s", b[:n], err, want)
		}
	}
	await(t, s.Stopped())
	if s.Gone() {
		t.Error("it asked for an end, and is said to be gone")
	}
	s.Close()
	awaitExit(t, s.PID())
}

// Whatever a successor does wrong, Start says it in a line and leaves neither a process nor a descriptor.
func TestStartFails(t *testing.T) {
	for _, tt := range []struct {
		role, want string
	}{
		{"", "no such file"}, // no program at all, see below
		{"nothing", "exit status 7"},
		{"not JSON", "invalid character"},
		{`{"kind":"failed","reason":"no room"}`, "cannot start: no room"},
		{`{"kind":"ready"}`, `before it`},
		{`{"kind":"unknown"};{"kind":"ready"}`, `before it`},
		{"wait", `did not say "ready" in time`},
		{`{"kind":"ready"};wait`, `did not say "accepting" in time`},
	} {
		t.Run(strconv.Quote(tt.role), func(t *testing.T) {
			fdtest.NoLeaks(t)
			fd := aSocket(t)
			p := program(t, tt.role)
			if tt.role == "" {
				p.Path = filepath.Join(t.TempDir(), "none")
			}
			timeout := patience
			if strings.HasSuffix(tt.role, "wait") {
				timeout = 300 * time.Millisecond
			}
			s, err := upgrade.Start(context.Background(), p, []upgrade.Socket{{Name: "x", FD: loop.OwnFD(fd)}}, timeout)
			if err == nil {
				t.Fatalf("process %d has taken over", s.PID())
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q does not say %q in one line", err, tt.want)
			}
		})
	}
}

// An attempt that is given up ends soon, whatever the successor is doing.
func TestStartIsGivenUp(t *testing.T) {
	fdtest.NoLeaks(t)
	ctx, cancel := context.WithCancel(context.Background())
	timer := time.AfterFunc(200*time.Millisecond, cancel)
	defer timer.Stop()
	begun := time.Now()
	_, err := upgrade.Start(ctx, program(t, "wait"), nil, time.Hour)
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("it took %v", took)
	}
}

// Goal: a successor gets the standard streams and its end of the channel, and of the environment all but what speaks of
// its predecessor alone. Method: it says what it has.
func TestStartPassesNothingElse(t *testing.T) {
	open, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	_, err = upgrade.Start(context.Background(), program(t, "descriptors"), nil, patience)
	if err == nil {
		t.Fatal("it has taken over")
	}
	fds, env, ok := strings.Cut(err.Error(), " env ")
	if !ok || !strings.Contains(fds, "3 socket:") {
		t.Fatalf("%v", err)
	}
	if strings.Contains(fds, "/dev/zero") || strings.Count(fds, "socket:") != 1 {
		t.Errorf("it has %s", fds)
	}
	words := strings.Fields(env)
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID"} {
		if slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, name+"=") }) {
			t.Errorf("it has %s of its predecessor", name)
		}
	}
	if !slices.Contains(words, "WATCHDOG_USEC=5") {
		t.Errorf("the rest of the environment is missing: %q", words)
	}
}

// awaitExit waits until a child is gone, and has been waited for.
func awaitExit(t *testing.T, pid int) {
	t.Helper()
	fdtest.Eventually(t, fmt.Sprintf("process %d to end", pid), func() bool {
		_, err := os.Stat("/proc/" + strconv.Itoa(pid))
		return errors.Is(err, os.ErrNotExist)
	})
}
