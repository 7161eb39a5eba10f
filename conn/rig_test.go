package conn_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/fdrecv/fdtest"
	"streaming-daemon-go/loop"
)

// patience bounds every wait: reached only by a test that fails.
const patience = 20 * time.Second

// plenty is a limit that no test reaches.
const plenty = 1 << 40

var errOver = errors.New("the test is over")

// rig is a pool of loops with a shard each. When the test ends it checks, for every conn that was opened, that its
// owner was told in the promised order, that all counts are back at zero, and that no descriptor or goroutine is left.
type rig struct {
	testing.TB
	shards []*conn.Shard
	budget *conn.Budget
	log    *lines
	probes []*probe
}

func newRig(t testing.TB, loops int, cfg conn.Config, limit int64) *rig {
	t.Helper()
	fdtest.NoLeaks(t)
	return makeRig(t, loops, cfg, limit)
}

func makeRig(t testing.TB, loops int, cfg conn.Config, limit int64) *rig {
	t.Helper()
	pool, err := loop.NewPool(loops)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	r := &rig{TB: t, log: &lines{}}
	r.budget = conn.NewBudget(limit, slog.New(slog.NewTextHandler(r.log, nil)))
	for _, l := range pool.Loops() {
		r.shards = append(r.shards, conn.NewShard(l, cfg, r.budget))
	}
	t.Cleanup(r.end)
	return r
}

func (r *rig) end() {
	for _, p := range r.probes {
		r.onLoop(p.shard.Loop(), func() { p.Abort(errOver, true) })
		if told := strings.Join(p.told, " "); !inOrder.MatchString(told) {
			r.Errorf("a conn's owner was told: %s", told)
		}
	}
	for i, sh := range r.shards {
		if c := sh.Counts(); c.Open != 0 || c.Paused != 0 || c.Pending != 0 {
			r.Errorf("shard %d counts %+v at the end", i, c)
		}
		r.on(i, func() {
			if b, l := len(sh.Blocked()), len(sh.Lingering()); b+l > 0 {
				r.Errorf("shard %d: %d blocked, %d lingering at the end", i, b, l)
			}
		})
	}
	if n := r.budget.Pending(); n != 0 {
		r.Errorf("%d bytes pending at the end", n)
	}
}

var inOrder = regexp.MustCompile(`^((paused resumed )*(paused )?ended released)?$`)

// on runs f on loop i, in one turn, and waits for it.
func (r *rig) on(i int, f func()) { r.Helper(); r.onLoop(r.shards[i].Loop(), f) }

func (r *rig) onLoop(l *loop.Loop, f func()) {
	r.Helper()
	done := make(chan struct{})
	if err := l.Post(func() { defer close(done); f() }); err != nil {
		r.Fatal(err)
	}
	await(r, done, "the posted function")
}

// turns lets loop i finish n more turns, in each of which it has looked at the readiness there was.
func (r *rig) turns(i, n int) {
	for range n {
		r.on(i, func() {})
	}
}

// eachTurn runs f(0), f(1), ... on loop i, in n turns that follow each other, and waits for the last.
func (r *rig) eachTurn(i, n int, f func(turn int)) {
	r.Helper()
	l, done := r.shards[i].Loop(), make(chan struct{})
	var step func(turn int)
	step = func(turn int) {
		if turn == n {
			close(done)
			return
		}
		f(turn)
		if err := l.Post(func() { step(turn + 1) }); err != nil {
			r.Error(err)
		}
	}
	r.on(i, func() { step(0) })
	await(r, done, "the last turn")
}

// after runs f on loop i when d has passed on its clock, and waits for it.
func (r *rig) after(i int, d time.Duration, f func()) {
	r.Helper()
	l := r.shards[i].Loop()
	a := &alarm{fire: f, fired: make(chan struct{})}
	a.Firer = a
	r.on(i, func() { l.Arm(&a.Timer, l.Now()+d) })
	await(r, a.fired, "the alarm")
}

// alarm is a timer of a test's own.
type alarm struct {
	loop.Timer
	fire  func()
	fired chan struct{}
}

func (a *alarm) Fire()        { defer close(a.fired); a.fire() }
func (a *alarm) Failed(error) {}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// open opens p on loop i over a fresh pair and gives the client's end.
func (r *rig) open(i int, p *probe, kind pair) net.Conn {
	r.Helper()
	near, client := kind.make(r)
	r.openFD(i, p, near, kind.tcp)
	return client
}

func (r *rig) openFD(i int, p *probe, near loop.FD, tcp bool) {
	r.Helper()
	p.shard = r.shards[i]
	p.ended, p.released = make(chan struct{}), make(chan struct{})
	p.paused, p.resumed = make(chan struct{}, 1), make(chan struct{}, 1)
	r.on(i, func() {
		if err := p.Open(p.shard, near, tcp, p); err != nil {
			r.Error(err)
			_ = near.Close()
			return
		}
		r.probes = append(r.probes, p)
	})
}

// pair is a way to make a client socket.
type pair struct {
	name string
	tcp  bool
	make func(testing.TB) (near loop.FD, client net.Conn)
}

var (
	tcp  = pair{"tcp", true, func(t testing.TB) (loop.FD, net.Conn) { return tcpPair(t) }}
	unic = pair{"unix", false, unixPair}
	both = []pair{tcp, unic}
)

func tcpPair(t testing.TB) (loop.FD, *net.TCPConn) {
	t.Helper()
	near, client := fdtest.TCPPair(t)
	_ = client.SetDeadline(time.Now().Add(patience))
	return near, client
}

func unixPair(t testing.TB) (loop.FD, net.Conn) {
	t.Helper()
	near, far := fdtest.SocketPair(t, unix.SOCK_STREAM)
	f := os.NewFile(uintptr(far.Release()), "far")
	defer f.Close()
	client, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	_ = client.SetDeadline(time.Now().Add(patience))
	return near, client
}

// probe is a conn whose owner is the test. Its fields belong to the loop; a test reads told and cause after ended or
// released was closed.
type probe struct {
	conn.Conn
	shard                       *conn.Shard
	onPaused, onResumed         func()
	onEnded                     func(error)
	onReleased                  func()
	told                        []string
	cause                       error
	fed                         int
	endedAt, releasedAt         time.Duration // loop clock
	ended, released             chan struct{} // closed then
	paused, resumed             chan struct{} // one is kept
	pauses, resumes, mostQueued int
	mostResumed                 int // most bytes pending at a Resumed
}

// noFD is for a Kernel that needs none.
var noFD loop.FD

func (p *probe) Paused() {
	p.told = append(p.told, "paused")
	p.pauses++
	raise(p.paused)
	call(p.onPaused)
}

func (p *probe) Resumed() {
	p.told = append(p.told, "resumed")
	p.resumes++
	p.mostResumed = max(p.mostResumed, p.Pending())
	raise(p.resumed)
	call(p.onResumed)
}

func (p *probe) Ended(cause error) {
	p.told = append(p.told, "ended")
	p.cause, p.endedAt = cause, p.shard.Loop().Now()
	close(p.ended)
	if p.onEnded != nil {
		p.onEnded(cause)
	}
}

func (p *probe) Released() {
	p.told = append(p.told, "released")
	p.releasedAt = p.shard.Loop().Now()
	close(p.released)
	call(p.onReleased)
}

func raise(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func call(f func()) {
	if f != nil {
		f()
	}
}

// feed sends events of the pattern until p is paused or over, or has been fed upTo bytes in all.
func (p *probe) feed(event, upTo int) {
	for p.Writable() && !p.IsPaused() && p.fed < upTo {
		p.Queue(pattern(p.fed, min(event, upTo-p.fed)))
		p.fed += min(event, upTo-p.fed)
		p.mostQueued = max(p.mostQueued, p.Pending())
		p.Flush()
	}
}

// period of the pattern: a prime, so that bytes lost or repeated in any usual quantity show.
const period = 251

var patternBytes = func() []byte {
	b := make([]byte, period+1<<20)
	for i := range b {
		b[i] = byte(i % period)
	}
	return b
}()

// pattern is n bytes (at most 1 MiB) of an endless sequence in which each byte tells its offset. The bytes are shared.
func pattern(offset, n int) []byte { return patternBytes[offset%period:][:n:n] }

// readPattern reads n bytes, or to the end when n < 0, and checks each.
func readPattern(r io.Reader, offset, n int) (read int, err error) {
	b := make([]byte, 32<<10)
	for n < 0 || read < n {
		want := len(b)
		if n >= 0 {
			want = min(want, n-read)
		}
		m, err := r.Read(b[:want])
		for i, c := range b[:m] {
			if c != byte((offset+read+i)%period) {
				return read, fmt.Errorf("byte %d is wrong", offset+read+i)
			}
		}
		read += m
		if err == io.EOF && n < 0 {
			return read, nil
		}
		if err != nil {
			return read, err
		}
	}
	return read, nil
}

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, string(b))
	return len(b), nil
}

func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.text...)
}

// captureLog collects what goes to the default logger until the test ends.
func captureLog(t testing.TB) *lines {
	out, before := &lines{}, slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(out, nil)))
	t.Cleanup(func() { slog.SetDefault(before) })
	return out
}
