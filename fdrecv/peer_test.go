package fdrecv_test

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/fdrecv/fdtest"
)

// Goal: who is on neither list hands nothing over, on any kind, and leaves no descriptor with us; who is on one of them
// is served. Method: the lists are made around the ids of this process, which is the peer.
func TestAllowedPeers(t *testing.T) {
	uid, gid := uint32(os.Geteuid()), uint32(os.Getegid())
	tests := []struct {
		name    string
		uids    []uint32
		gids    []uint32
		allowed bool
	}{
		{"no list", nil, nil, true},
		{"this user", []uint32{uid + 1, uid}, nil, true},
		{"this group", nil, []uint32{gid + 1, gid}, true},
		{"another user of this group", []uint32{uid + 1}, []uint32{gid}, true},
		{"this user of another group", []uint32{uid}, []uint32{gid + 1}, true},
		{"another user", []uint32{uid + 1}, nil, false},
		{"another group", nil, []uint32{gid + 1}, false},
		{"another user and group", []uint32{uid + 1}, []uint32{gid + 1}, false},
	}
	for _, tt := range tests {
		for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
			t.Run(tt.name+"/"+kind.String(), func(t *testing.T) {
				fdtest.NoLeaks(t)
				accepted := 0
				r := serve(t, kind, fdrecv.Config{AllowUIDs: tt.uids, AllowGIDs: tt.gids, Accepted: func() { accepted++ }})
				defer r.stop()
				server, client := streamPair(t)
				err := fdrecv.Send(r.path, kind, server.Int(), nil, patience)
				if err != nil && (tt.allowed || !errors.Is(err, unix.EPIPE)) { // EPIPE: turned away before it had sent
					t.Fatal(err)
				}
				h := r.next()
				defer h.Client.Close()
				if tt.allowed {
					if h.Err != nil || !h.Client.Valid() {
						t.Errorf("an allowed peer: %v", h.Err)
					}
				} else {
					if !errors.Is(h.Err, fdrecv.ErrDenied) || h.Client.Valid() {
						t.Errorf("error %v, client %v; want ErrDenied and none", h.Err, h.Client.Valid())
					}
					// All copies are gone once ours is: the client's end is an end, nobody holds it in secret.
					_ = server.Close()
					expectEOF(t, client.Int())
				}
				r.inTurn(func() {
					if accepted != 1 {
						t.Errorf("%d connections were counted", accepted)
					}
				})
			})
		}
	}
}

// Goal: a peer that is let in by its user id is known by the kernel's word: another user is denied. Method: the peer is
// this test binary, started once more as another user; it needs root.
func TestDeniedUser(t *testing.T) {
	const nobody = 65534
	if path := os.Getenv("FDRECV_TEST_PEER"); path != "" {
		conn, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Connect(conn, &unix.SockaddrUnix{Name: path})
		}
		if err != nil {
			t.Fatal(err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process as another user")
	}
	for _, allowed := range []bool{true, false} {
		uid := uint32(nobody)
		if !allowed {
			uid = 0
		}
		r := serve(t, fdrecv.KindStream, fdrecv.Config{AllowUIDs: []uint32{uid}})
		dir := strings.TrimSuffix(r.path, "/s")
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(r.path, 0o666)); err != nil {
			t.Fatal(err)
		}
		process, err := os.StartProcess("/proc/self/exe", []string{"fdrecv.test", "-test.run=^TestDeniedUser$"}, &os.ProcAttr{
			Env:   []string{"FDRECV_TEST_PEER=" + r.path},
			Files: []*os.File{nil, os.Stderr, os.Stderr},
			Dir:   "/",
			Sys:   &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}},
		})
		if err != nil {
			t.Fatal(err)
		}
		state, err := process.Wait()
		if err != nil || !state.Success() {
			t.Fatalf("the peer: %v, %v", state, err)
		}
		if h := r.next(); errors.Is(h.Err, fdrecv.ErrDenied) == allowed {
			t.Errorf("allowed %v: %v", allowed, h.Err)
		} else if !allowed && !strings.Contains(h.Err.Error(), "user 65534") {
			t.Errorf("the error does not say who it was: %v", h.Err)
		}
		r.stop()
	}
}

// The path belongs to whom it was given to, before anybody can connect; a gift that is not ours to make is refused and
// leaves nothing behind.
func TestListenOwner(t *testing.T) {
	fdtest.NoLeaks(t)
	own := func(id int) *uint32 { n := uint32(id); return &n }
	stat := func(path string) (st unix.Stat_t) {
		t.Helper()
		if err := unix.Lstat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	if os.Geteuid() == 0 {
		for _, tt := range []struct {
			uid, gid         *uint32
			wantUID, wantGID uint32
		}{{nil, own(33), 0, 33}, {own(33), nil, 33, uint32(os.Getegid())}, {own(33), own(34), 33, 34}} {
			path := socketPath(t)
			ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: 0o620, UID: tt.uid, GID: tt.gid})
			if err != nil {
				t.Fatal(err)
			}
			if st := stat(path); st.Uid != tt.wantUID || st.Gid != tt.wantGID || st.Mode&0o7777 != 0o620 {
				t.Errorf("%d:%d, mode %o; want %d:%d, mode 620", st.Uid, st.Gid, st.Mode, tt.wantUID, tt.wantGID)
			}
			ln.Close()
			if exists(path) {
				t.Error("the path stays behind")
			}
		}
	}
	// 2^32 - 1 is no id (chown(2) takes it for "leave it"), so the largest that may be asked for is one that no user of a
	// test has; an ordinary user may not give to it, and neither may root in a namespace without it.
	path := socketPath(t)
	ln, err := fdrecv.Listen(fdrecv.ListenConfig{Path: path, Mode: 0o600, UID: own(1<<32 - 2)})
	switch {
	case err == nil:
		ln.Close()
		if os.Geteuid() != 0 {
			t.Error("a file was given away")
		}
	case exists(path):
		t.Error("a refused start leaves its socket behind")
	case !strings.Contains(err.Error(), path) || !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EINVAL):
		t.Errorf("error %v", err)
	}
}

// A new timeout holds for the handoffs that come.
func TestSetTimeout(t *testing.T) {
	fdtest.NoLeaks(t)
	r := serve(t, fdrecv.KindStream, fdrecv.Config{Timeout: time.Hour})
	defer r.stop()
	r.ln.SetTimeout(20 * time.Millisecond)
	r.inTurn(func() {}) // it has run
	silent := fdtest.Dial(t, r.path, unix.SOCK_STREAM)
	defer silent.Close()
	if h := r.next(); !errors.Is(h.Err, fdrecv.ErrTimeout) {
		t.Errorf("error %v, want ErrTimeout", h.Err)
	}
}
