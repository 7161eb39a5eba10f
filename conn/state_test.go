package conn_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"streaming-daemon-go/conn"
	"streaming-daemon-go/loop"
)

// panics runs f on loop 0 and gives what it panicked with, "" for nothing.
func (r *rig) panics(f func()) (with string) {
	r.Helper()
	r.on(0, func() {
		defer func() {
			if v := recover(); v != nil {
				with = fmt.Sprint(v)
			}
		}()
		f()
	})
	return with
}

// Every pair of states: the steps there are, and a panic with both names for each of the others.
func TestSteps(t *testing.T) {
	legal := map[string][]string{
		"new":       {"open"},
		"open":      {"paused", "flushing", "lingering", "closed"},
		"paused":    {"open", "flushing", "lingering", "closed"},
		"flushing":  {"lingering", "closed"},
		"lingering": {"closed"},
	}
	r := newRig(t, 1, conn.Config{}, plenty)
	for _, from := range conn.StateNames() {
		for _, to := range conn.StateNames() {
			with := r.panics(func() { conn.Step(r.shards[0], from, to) })
			if slices.Contains(legal[from], to) != (with == "") {
				t.Errorf("%s -> %s: %q", from, to, with)
			}
			if with != "" && !strings.Contains(with, from+" -> "+to) {
				t.Errorf("%s -> %s: %q", from, to, with)
			}
		}
	}
}

// What may be called in each state, and what a Conn that is over lets pass.
func TestCallsByState(t *testing.T) {
	calls := map[string]func(p *probe){
		"Open":      func(p *probe) { _ = p.Open(p.shard, noFD, false, p) },
		"Queue":     func(p *probe) { p.Queue([]byte("x")) },
		"QueueCopy": func(p *probe) { p.QueueCopy([]byte("x")) },
		"Finish":    func(p *probe) { p.Finish() },
		"Flush":     func(p *probe) { p.Flush() },
		"Abort":     func(p *probe) { p.Abort(errOver, true) },
		"Discard":   func(p *probe) { p.Discard() },
	}
	states := map[string]struct {
		reach  func(p *probe, k *sink)
		panics []string
	}{
		"new":    {func(*probe, *sink) {}, []string{"Queue", "QueueCopy", "Finish"}},
		"open":   {func(p *probe, k *sink) { open(p) }, []string{"Open"}},
		"paused": {func(p *probe, k *sink) { k.take = full; open(p); p.feed(event, 1<<20) }, []string{"Open", "Discard"}},
		"flushing": {func(p *probe, k *sink) { k.take = full; open(p); p.Queue([]byte("x")); p.Finish() },
			[]string{"Open", "Queue", "QueueCopy", "Finish", "Discard"}},
		"lingering": {func(p *probe, k *sink) { open(p); p.Queue([]byte("x")); p.Finish() },
			[]string{"Open", "Queue", "QueueCopy", "Finish", "Discard"}},
		"closed": {func(p *probe, k *sink) { open(p); p.Abort(errOver, true) },
			[]string{"Open", "Queue", "QueueCopy", "Finish"}},
	}
	k := &sink{}
	r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
	for state, s := range states {
		for name, call := range calls {
			p := &probe{shard: r.shards[0], ended: make(chan struct{}), released: make(chan struct{})}
			r.probes = append(r.probes, p)
			r.on(0, func() { k.take = nil; s.reach(p, k) })
			if got := p.StateName(); got != state {
				t.Fatalf("reached %s in place of %s", got, state)
			}
			if w := p.Writable(); w != (state == "open" || state == "paused") {
				t.Errorf("%s: Writable is %t", state, w)
			}
			with := r.panics(func() { call(p) })
			if slices.Contains(s.panics, name) != (with != "") {
				t.Errorf("%s of a conn that is %s: %q", name, state, with)
			}
			if with != "" && (!strings.Contains(with, name) || p.StateName() != state) {
				t.Errorf("%s of a conn that is %s: %q, now it is %s", name, state, with, p.StateName())
			}
		}
	}
}

func open(p *probe) {
	if err := p.Open(p.shard, noFD, false, p); err != nil {
		panic(err)
	}
}

// Discard takes back what no send has been asked to take, and nothing else remembers it.
func TestDiscard(t *testing.T) {
	k := &sink{keep: true}
	r := newRig(t, 1, conn.Config{Kernel: k}, plenty)
	p := &probe{}
	r.openFD(0, p, noFD, false)
	r.on(0, func() {
		p.QueueCopy([]byte("the head of a stream"))
		p.Queue([]byte("and an event"))
		p.Discard()
		p.QueueCopy([]byte("a refusal"))
		p.Finish()
		if string(k.got) != "a refusal" || p.cause != nil {
			t.Errorf("sent %q, %v", k.got, p.cause)
		}
	})
}

// An owner may end its conn in whatever it is told: each promise holds, and nothing is touched afterwards.
func TestAbortFromWithin(t *testing.T) {
	tests := map[string]func(p *probe, abort func()){
		"Paused":  func(p *probe, abort func()) { p.onPaused = abort },
		"Resumed": func(p *probe, abort func()) { p.onResumed = abort },
		"Ended":   func(p *probe, abort func()) { p.onEnded = func(error) { abort() } },
	}
	for name, set := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1, conn.Config{}, plenty)
			p := &probe{}
			client := r.open(0, p, tcp)
			set(p, func() { p.Abort(errOver, false) })
			r.on(0, func() {
				p.feed(event, 1<<20)
				if name == "Ended" {
					p.Finish()
				}
			})
			go func() { _, _ = io.Copy(io.Discard, client) }()
			await(t, p.released, "Released")
			if name != "Ended" && p.cause != errOver || name == "Ended" && p.cause != nil {
				t.Errorf("ended with %v", p.cause)
			}
		})
	}
}

// An owner that panics, wherever it is told something, costs its own conn only: it is ended with ErrPanic and
// released, its neighbour on the loop streams on, and all counts are right (the rig looks).
func TestPanickingOwner(t *testing.T) {
	boom := func() { panic(errOver) }
	tests := []struct {
		name string
		set  func(p *probe)
		do   func(p *probe, leave func()) // on the loop
		want []error                      // the cause is all of them
	}{
		{"Paused, from Flush in a callback", func(p *probe) {
			p.onResumed = func() { p.onPaused = boom; p.feed(event, 64<<20) }
		}, func(p *probe, _ func()) { p.feed(event, 64<<20) }, []error{conn.ErrPanic, errOver}},
		{"Resumed", func(p *probe) { p.onResumed = boom },
			func(p *probe, _ func()) { p.feed(event, 64<<20) }, []error{conn.ErrPanic, errOver}},
		{"Ended of a hangup", func(p *probe) { p.onEnded = func(error) { boom() } },
			func(_ *probe, leave func()) { leave() }, []error{conn.ErrHangup}},
		{"Ended of a finish in a callback", func(p *probe) {
			p.onEnded = func(error) { boom() }
			p.onResumed = func() { p.Finish() }
		}, func(p *probe, _ func()) { p.feed(event, 64<<20) }, nil},
		{"Released", func(p *probe) { p.onReleased = boom },
			func(_ *probe, leave func()) { leave() }, []error{conn.ErrHangup}},
	}
	eachPair(t, func(t *testing.T, kind pair) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				log := captureLog(t)
				r := newRig(t, 1, conn.Config{}, plenty)
				neighbour, p := &probe{}, &probe{}
				theirs, client := r.open(0, neighbour, kind), r.open(0, p, kind)
				tt.set(p)
				r.on(0, func() { tt.do(p, func() { _ = client.Close() }) })
				drained := make(chan struct{})
				go func() { // reads to the end, and closes
					defer close(drained)
					_, _ = io.Copy(io.Discard, client)
					_ = client.Close()
				}()
				await(t, p.released, "Released")
				await(t, drained, "the client's end")
				for _, want := range tt.want {
					if !errors.Is(p.cause, want) {
						t.Errorf("ended with %v", p.cause)
					}
				}
				r.turns(0, 1) // the panic is logged after Released
				if n := strings.Count(strings.Join(log.all(), ""), "panic in a callback"); n != 1 {
					t.Errorf("%d panics logged", n)
				}
				r.on(0, func() { neighbour.feed(event, event) })
				if _, err := readPattern(theirs, 0, event); err != nil {
					t.Error(err)
				}
				if n := r.shards[0].Counts().Open; n != 1 {
					t.Errorf("%d conns are counted", n)
				}
			})
		}
	})
}

// OwnerOf tells the conns among the descriptors of a loop from the rest.
func TestOwnerOf(t *testing.T) {
	r := newRig(t, 1, conn.Config{}, plenty)
	p := &probe{}
	r.open(0, p, unic)
	near, _ := unixPair(t)
	other := &stranger{}
	r.on(0, func() {
		if err := other.Attach(r.shards[0].Loop(), near, other); err != nil {
			t.Error(err)
		}
		found, strangers := 0, 0
		r.shards[0].Loop().Each(func(h loop.Handler) {
			switch owner, ok := conn.OwnerOf(h); {
			case !ok:
				strangers++
			case owner == conn.Owner(p):
				found++
			}
		})
		if found != 1 || strangers != 1 {
			t.Errorf("found %d times, %d strangers", found, strangers)
		}
		other.Retire()
	})
}

// stranger is a source that is no conn's.
type stranger struct{ loop.Source }

func (*stranger) Readable()    {}
func (*stranger) Writable()    {}
func (*stranger) Hangup()      {}
func (*stranger) Failed(error) {}
