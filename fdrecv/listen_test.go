package fdrecv_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// stale leaves a socket file behind that nobody listens on.
func stale(t testing.TB, path string, socketType int) {
	t.Helper()
	n, err := unix.Socket(unix.AF_UNIX, socketType|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(n)
	if err := unix.Bind(n, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// What is at the path already decides. Only a socket that refuses connections is replaced; each refusal is one line
// that names the path and leaves everything as it was.
func TestListenExistingPath(t *testing.T) {
	tests := []struct {
		name  string
		kind  fdrecv.Kind
		make  func(t *testing.T, path string)
		want  error // nil: it listens
		stays bool  // what was there, after a refusal
	}{
		{"nothing", fdrecv.KindStream, func(*testing.T, string) {}, nil, false},
		{"stale", fdrecv.KindStream, func(t *testing.T, path string) { stale(t, path, unix.SOCK_STREAM) }, nil, false},
		{"stale seqpacket", fdrecv.KindSeqpacket, func(t *testing.T, path string) { stale(t, path, unix.SOCK_SEQPACKET) },
			nil, false},
		{"a file", fdrecv.KindStream, func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrExist, true},
		{"a directory", fdrecv.KindStream, func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrExist, true},
		{"a link to a stale socket", fdrecv.KindStream, func(t *testing.T, path string) {
			stale(t, path+".target", unix.SOCK_STREAM)
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
		}, fs.ErrExist, true},
		{"a running twin", fdrecv.KindStream, func(t *testing.T, path string) { listen(t, path, fdrecv.KindStream) },
			fdrecv.ErrInUse, true},
		{"P-03: a running twin of another type", fdrecv.KindStream,
			func(t *testing.T, path string) { listen(t, path, fdrecv.KindSeqpacket) }, unix.EPROTOTYPE, true},
		{"P-02: a running twin with a full backlog", fdrecv.KindStream, func(t *testing.T, path string) {
			ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: 0o600, Backlog: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(ln.Close)
			fillBacklog(t, path, fdrecv.KindStream)
		}, fdrecv.ErrInUse, true},
		{"the directory is missing", fdrecv.KindStream, func(t *testing.T, path string) {
			if err := os.Remove(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
		}, unix.ENOENT, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fdtest.NoLeaks(t)
			path := socketPath(t)
			tt.make(t, path)
			before, _ := os.Lstat(path)
			ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Kind: tt.kind, Mode: 0o600})
			if tt.want == nil {
				if err != nil {
					t.Fatal(err)
				}
				ln.Close()
				if exists(path) {
					t.Error("the path is still there after Close")
				}
				return
			}
			if !errors.Is(err, tt.want) {
				t.Fatalf("error %v, want %v", err, tt.want)
			}
			if s := err.Error(); !strings.Contains(s, path) || strings.Contains(s, "\n") {
				t.Errorf("not one line that names the path: %q", s)
			}
			after, statErr := os.Lstat(path)
			if tt.stays != (statErr == nil) || tt.stays && !os.SameFile(before, after) {
				t.Errorf("afterwards the path is %v, %v", after, statErr)
			}
		})
	}
}

// fillBacklog connects until the kernel says EAGAIN, and says after how many.
func fillBacklog(t *testing.T, path string, kind fdrecv.Kind) int {
	t.Helper()
	sender, err := fdrecv.NewSender(path, kind)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 10_000 {
		conn, err := sender.Connect()
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the backlog is not full after 10,000 connects")
	return 0
}

func TestListenRefusesConfig(t *testing.T) {
	fdtest.NoLeaks(t)
	for _, cfg := range []fdrecv.ListenConfig{
		{},
		{Path: "a\x00b"},
		{Path: "@abstract"},
		{Path: "/" + strings.Repeat("x", 107)},
		{Path: "x", Kind: 99},
		{Path: "x", Mode: fs.ModeSetuid | 0o600},
		{Path: "x", Backlog: -1},
	} {
		if ln, err := fdrecv.Listen(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
			ln.Close()
		}
	}
	dir := filepath.Dir(socketPath(t))
	longest := dir + "/" + strings.Repeat("x", 107-len(dir)-1)
	ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: longest, Mode: 0o600})
	if err != nil {
		t.Fatalf("107 bytes: %v", err)
	}
	defer ln.Close()
	if err := fdrecv.Send(longest, fdrecv.KindStream, 0, nil, time.Second); err != nil {
		t.Errorf("107 bytes: %v", err)
	}
}

// The mode is the one asked for, whatever the umask; and a file that nobody may open is left alone.
func TestListenMode(t *testing.T) {
	fdtest.NoLeaks(t)
	for _, mode := range []fs.FileMode{0o600, 0o660, 0o666, 0o777, 0} {
		path := socketPath(t)
		ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: mode})
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode(); got != fs.ModeSocket|mode {
			t.Errorf("mode %v, want %v", got, mode)
		}
		ln.Close()
	}
}

// EACCES does not mean stale. Root may open anything, so the probe runs in a child with another user.
func TestListenNotPermitted(t *testing.T) {
	if path := os.Getenv("FDRECV_TEST_PATH"); path != "" {
		_, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: 0o600})
		if !errors.Is(err, fdrecv.ErrInUse) || !errors.Is(err, unix.EACCES) {
			t.Fatalf("in the child: %v", err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("changing the user takes root")
	}
	fdtest.NoLeaks(t)
	path := socketPath(t)
	// The child may write to the directory, so that only the probe's answer protects the socket.
	if err := os.Chmod(filepath.Dir(path), 0o777); err != nil {
		t.Fatal(err)
	}
	ln := listen(t, path, fdrecv.KindStream) // mode 0600, root's
	if err := os.Remove(path + ".lock"); err != nil {
		t.Fatal(err) // it is root's; the child makes one of its own
	}
	// The test binary lies in a directory of root's.
	exe := filepath.Join(filepath.Dir(path), "child")
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(exe, self, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestListenNotPermitted$")
	cmd.Dir = filepath.Dir(path)
	cmd.Env = append(os.Environ(), "FDRECV_TEST_PATH="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if !exists(path) {
		t.Error("the socket is gone")
	}
	_ = os.Remove(path + ".lock") // the child's
	ln.Close()
}

// Starters race for a path with a stale socket on it, round after round: one wins, the others are told, and the
// winner's socket is the one at the path. Without the lock one starter removes what another has just bound.
func TestListenRace(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	for round := range 60 {
		stale(t, path, unix.SOCK_STREAM)
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []*fdrecv.Listener
		start := make(chan struct{})
		for range 6 {
			wg.Go(func() {
				<-start
				ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: 0o600})
				if err != nil {
					if !errors.Is(err, fdrecv.ErrInUse) {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				winners = append(winners, ln)
				mu.Unlock()
			})
		}
		close(start)
		wg.Wait()
		if len(winners) != 1 {
			t.Fatalf("round %d: %d starters listen", round, len(winners))
		}
		if err := fdrecv.Send(path, fdrecv.KindStream, 0, nil, time.Second); err != nil {
			t.Fatalf("round %d: nobody listens at the path: %v", round, err)
		}
		winners[0].Close()
		if exists(path) {
			t.Fatalf("round %d: the path stays", round)
		}
	}
}

// A lock that is held for good is a refusal that says so, not a start that hangs.
func TestListenLockHeld(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	_, err = fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: 0o600})
	if !errors.Is(err, fdrecv.ErrInUse) || !strings.Contains(err.Error(), path+".lock") {
		t.Errorf("%v", err)
	}
	if exists(path) {
		t.Error("it bound without the lock")
	}
}

// The path is removed only when it is still ours: a successor's socket, or a file, under the same name stays.
func TestUnlinkOnlyIfOurs(t *testing.T) {
	for _, drain := range []bool{false, true} {
		for _, served := range []bool{false, true} {
			for _, replaced := range []bool{false, true} {
				t.Run(fmt.Sprintf("drain=%t/served=%t/replaced=%t", drain, served, replaced), func(t *testing.T) {
					fdtest.NoLeaks(t)
					path := socketPath(t)
					r := &receiver{t: t, loop: newLoop(t), path: path, ln: listen(t, path, fdrecv.KindStream),
						handoffs: make(chan fdrecv.Handoff, 1)}
					if served {
						r.start(fdrecv.Config{})
					}
					if replaced {
						if err := os.Remove(path); err != nil {
							t.Fatal(err)
						}
						listen(t, path, fdrecv.KindStream) // the successor
					}
					if drain {
						done := make(chan struct{})
						r.ln.Drain(func() { close(done) })
						<-done
					} else {
						r.ln.Close()
					}
					if exists(path) != replaced {
						t.Errorf("the path exists: %t, want %t", exists(path), replaced)
					}
				})
			}
		}
	}
}

// While another start holds the lock it may have looked at our socket already and be about to replace it: the path is
// left to it.
func TestUnlinkRespectsTheLock(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	ln := listen(t, path, fdrecv.KindStream)
	f, err := os.OpenFile(path+".lock", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if !exists(path) {
		t.Error("removed under another start's feet")
	}
}

// P-02: by default the backlog is as long as the kernel allows, and EAGAIN comes through when it is full; so do the
// other answers that a sender can get.
func TestP02Backlog(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Kind: fdrecv.KindSeqpacket, Mode: 0o600, Backlog: 3})
	if err != nil {
		t.Fatal(err)
	}
	if n := fillBacklog(t, path, fdrecv.KindSeqpacket); n != 4 { // the kernel lets in one more than it is told
		t.Errorf("a backlog of 3 took %d", n)
	}
	err = fdrecv.Send(path, fdrecv.KindSeqpacket, 0, nil, time.Second)
	if !errors.Is(err, unix.EAGAIN) {
		t.Errorf("full backlog: %v", err)
	}
	ln.Close()

	big := socketPath(t)
	listen(t, big, fdrecv.KindSeqpacket)
	sender, err := fdrecv.NewSender(big, fdrecv.KindSeqpacket)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 600 { // more than the 511 or 128 that are usual elsewhere
		conn, err := sender.Connect()
		if err != nil {
			t.Fatalf("connect %d: %v", i, err)
		}
		defer conn.Close()
	}
}

// An inherited socket is served like another, but its path stays and so does its backlog: both belong to whoever holds
// the other copy (P-22).
func TestP22Inherited(t *testing.T) {
	for _, drain := range []bool{false, true} {
		t.Run(fmt.Sprintf("drain=%t", drain), func(t *testing.T) {
			fdtest.NoLeaks(t)
			path := socketPath(t)
			owner := listen(t, path, fdrecv.KindSeqpacket)
			n, err := unix.FcntlInt(uintptr(owner.SocketFD()), unix.F_DUPFD, 0) // without close-on-exec, as it is inherited
			if err != nil {
				t.Fatal(err)
			}
			ln, err := fdrecv.ListenerFromFD(loop.OwnFD(n), fdrecv.KindSeqpacket)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			if !fdrecv.CloseOnExec(n) {
				t.Error("the socket would be inherited by children")
			}
			r := &receiver{t: t, loop: newLoop(t), path: path, ln: ln, handoffs: make(chan fdrecv.Handoff, 1)}
			r.start(fdrecv.Config{})
			server, _ := streamPair(t)
			if err := fdrecv.Send(path, fdrecv.KindSeqpacket, server.Int(), nil, time.Second); err != nil {
				t.Fatal(err)
			}
			h := r.next()
			_ = h.Client.Close()
			if h.Err != nil {
				t.Error(h.Err)
			}
			done := make(chan struct{})
			if drain {
				ln.Drain(func() { close(done) })
			} else {
				ln.Close()
				r.inTurn(func() { close(done) })
			}
			<-done
			// The successor, the owner here, still gets what is sent from now on.
			if err := fdrecv.Send(path, fdrecv.KindSeqpacket, server.Int(), nil, time.Second); err != nil {
				t.Fatalf("after the end: %v", err)
			}
			conn, _, err := unix.Accept4(owner.SocketFD(), unix.SOCK_CLOEXEC)
			if err != nil {
				t.Fatalf("the owner cannot accept: %v", err)
			}
			_ = unix.Close(conn)
		})
	}
}

func TestListenerFromFDRefuses(t *testing.T) {
	fdtest.NoLeaks(t)
	path := socketPath(t)
	fd := listen(t, path, fdrecv.KindStream).FDOf()
	defer fd.Close()
	tcp := newSocket(t, unix.AF_INET, unix.SOCK_STREAM)
	defer tcp.Close()
	idle := newSocket(t, unix.AF_UNIX, unix.SOCK_STREAM)
	defer idle.Close()
	pipe := badClients[0].open(t)
	defer pipe.Close()
	for _, tt := range []struct {
		name string
		fd   loop.FD
		kind fdrecv.Kind
	}{
		{"a stream socket for seqpacket", fd, fdrecv.KindSeqpacket},
		{"no such kind", fd, 77},
		{"TCP", tcp, fdrecv.KindStream},
		{"not listening", idle, fdrecv.KindStream},
		{"a pipe", pipe, fdrecv.KindStream},
		{"none", loop.FD{}, fdrecv.KindStream},
	} {
		if _, err := fdrecv.ListenerFromFD(tt.fd, tt.kind); err == nil {
			t.Errorf("%s was taken", tt.name)
		}
	}
	if _, err := fdrecv.ListenerFromFD(fd, fdrecv.KindFDPass); err != nil {
		t.Errorf("the right one was refused: %v", err)
	}
}

func TestServeRefuses(t *testing.T) {
	fdtest.NoLeaks(t)
	l := newLoop(t)
	ln := listen(t, socketPath(t), fdrecv.KindStream)
	handoff := func(fdrecv.Handoff) {}
	for _, cfg := range []fdrecv.Config{
		{},
		{Handoff: handoff, PayloadMax: 256 << 10},
		{Handoff: handoff, PayloadMax: -1},
		{Handoff: handoff, Timeout: -1},
		{Handoff: handoff, AcceptBudget: -1},
		{Handoff: handoff, PendingMax: -1},
	} {
		if err := ln.Serve(l, cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
	if err := ln.Serve(l, fdrecv.Config{Handoff: handoff, PayloadMax: 256<<10 - 1}); err != nil {
		t.Error(err)
	}
	if err := ln.Serve(l, fdrecv.Config{Handoff: handoff}); err == nil {
		t.Error("served twice")
	}
	closed := listen(t, socketPath(t), fdrecv.KindStream)
	closed.Close()
	if err := closed.Serve(l, fdrecv.Config{Handoff: handoff}); err == nil {
		t.Error("served after Close")
	}
}
