package conn_test

import (
	"errors"
	"os"
	"os/signal"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
)

// The options of a client socket after Open are those before, but for the two that the package comment lists; so are
// its file status flags, which the sender's copy shares (P-13). Apache's own (P-05) are set beforehand here. The user
// timeout, which finds clients without a FIN (P-15), is the write timeout.
func TestSocketOptions(t *testing.T) {
	options := []struct {
		name          string
		level, option int
	}{
		{"TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY},
		{"TCP_CORK", unix.IPPROTO_TCP, unix.TCP_CORK},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
		{"TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		{"TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2},
		{"TCP_WINDOW_CLAMP", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP},
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF},
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF},
		{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT},
		{"SO_PRIORITY", unix.SOL_SOCKET, unix.SO_PRIORITY},
		{"SO_BUSY_POLL", unix.SOL_SOCKET, unix.SO_BUSY_POLL},
		{"SO_ZEROCOPY", unix.SOL_SOCKET, unix.SO_ZEROCOPY},
	}
	read := func(fd int) map[string]int {
		all := map[string]int{}
		for _, o := range options {
			v, err := unix.GetsockoptInt(fd, o.level, o.option)
			if err != nil {
				t.Fatalf("%s: %v", o.name, err)
			}
			all[o.name] = v
		}
		linger, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
		if err != nil {
			t.Fatal(err)
		}
		all["SO_LINGER"] = int(linger.Onoff)
		if all["F_GETFL"], err = unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0); err != nil {
			t.Fatal(err)
		}
		return all
	}
	tests := []struct {
		writeTimeout time.Duration
		userTimeout  int // milliseconds
	}{
		{0, 30_000},
		{7 * time.Second, 7_000},
		{time.Microsecond, 1},              // 0 would be the kernel's default, a quarter of an hour
		{1000 * time.Hour, 1<<31 - 1},      // the kernel refuses what does not fit an int
		{24 * time.Hour, 24 * 3600 * 1000}, // and takes what does
	}
	r := newRig(t, 1, conn.Config{}, plenty)
	for _, tt := range tests {
		r.on(0, func() { r.shards[0].Reconfigure(conn.Config{WriteTimeout: tt.writeTimeout}) })
		p := &probe{}
		near, _ := tcpPair(t)
		fd := near.Int()
		for _, o := range []struct{ level, option int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		} {
			if err := unix.SetsockoptInt(fd, o.level, o.option, 1); err != nil {
				t.Fatal(err)
			}
		}
		want := read(fd)
		want["TCP_NOTSENT_LOWAT"], want["TCP_USER_TIMEOUT"] = conn.NotSentLowat, tt.userTimeout
		r.openFD(0, p, near, true)
		for name, v := range read(fd) {
			if v != want[name] {
				t.Errorf("write timeout %v: %s is %d, want %d", tt.writeTimeout, name, v, want[name])
			}
		}
	}
}

// The client socket may be a blocking one (P-13: its flags are what the sender left): no call on it waits. A loop that
// did would stop here.
func TestBlockingSocket(t *testing.T) {
	eachPair(t, func(t *testing.T, kind pair) {
		r := newRig(t, 1, conn.Config{}, plenty)
		p := &probe{}
		near, client := kind.make(t)
		if flags, err := unix.FcntlInt(uintptr(near.Int()), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK != 0 {
			t.Fatalf("not a blocking socket: %#x, %v", flags, err)
		}
		r.openFD(0, p, near, kind.tcp)
		r.on(0, func() { p.Queue(pattern(0, 1<<20)); p.Queue(pattern(1<<20, 1<<20)); p.Flush() })
		if _, err := client.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		r.on(0, func() {
			if p.Pending() == 0 {
				t.Error("the kernel took two megabytes at once: the test shows nothing")
			}
			p.Finish()
		})
		if n, err := readPattern(client, 0, -1); n != 2<<20 || err != nil {
			t.Errorf("read %d, %v", n, err)
		}
	})
}

// A send to a client that has just left makes no SIGPIPE: it would reach us before the signal that is sent after it.
func TestNoSIGPIPE(t *testing.T) {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGPIPE, unix.SIGWINCH)
	defer signal.Stop(signals)
	r := newRig(t, 1, conn.Config{}, plenty)
	for _, pieces := range []int{1, 2} { // send, sendmsg
		p := &probe{}
		client := r.open(0, p, unic)
		r.on(0, func() {
			_ = client.Close()
			for range pieces {
				p.Queue([]byte("too late"))
			}
			p.Flush() // before the loop can have seen the hangup
			if err := unix.Kill(unix.Getpid(), unix.SIGWINCH); err != nil {
				t.Error(err)
			}
		})
		if s := await(t, signals, "the second signal"); s != unix.SIGWINCH {
			t.Errorf("got %v", s)
		}
		await(t, p.released, "Released")
		if !errors.Is(p.cause, conn.ErrHangup) {
			t.Errorf("ended with %v", p.cause)
		}
	}
}
