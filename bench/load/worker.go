package load

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
)

const (
	readBuffer  = 64 << 10 // bytes; one per worker, nothing of it is kept
	openPerTurn = 32       // clients: opening takes about 100 µs each, and reading must not wait longer than a tick
	faultsShown = 5        // per worker and fault; the rest is only counted
	promptWords = 12       // of a prompt; with its number below the 100 characters that are repeated
)

// plan is what a worker has to open; owned by its loop.
type plan struct {
	total       uint64  // clients in all, counted from the start of the fleet
	concurrency uint64  // open at the same time; 0: no bound
	rate        float64 // clients per second; 0: as fast as they go
}

// worker is one loop's share of a fleet. Everything but counters is owned by its loop.
type worker struct {
	conf     Config // immutable
	index    int    // immutable
	loop     *loop.Loop
	sender   *fdrecv.Sender
	counters counters

	listener                    listener
	sources                     []*unix.SockaddrInet4 // of the clients, in turn
	waiting                     map[endpoint]*client  // connecting
	live                        []*client             // in no order
	prepared                    []*client             // ready, held back until release
	holdBack                    bool
	plan                        plan
	pacer                       pacer
	pumping                     bool   // pump is posted
	pump                        func() // bound once
	nothing                     []byte // the payload when it is the same for all
	rules                       *rules
	buffer                      []byte
	random                      *rand.Rand
	recordOpening, recordEvents bool
	latencies                   Latencies
	shown                       [faults]int
	opened                      uint64
	panicked                    atomic.Pointer[error]
}

// listener accepts the server ends.
type listener struct {
	loop.Source
	w  *worker
	at *unix.SockaddrInet4
}

func (l *listener) Readable()      { l.w.accept() }
func (l *listener) Writable()      {}
func (l *listener) Hangup()        { panic("load: hangup of a listener") }
func (l *listener) Failed(e error) { l.w.panicked.Store(&e) }

// start runs on the loop.
func (w *worker) start() error {
	w.pump = w.runPump
	if err := w.pacer.attach(w); err != nil {
		return err
	}
	if w.conf.Client != TCP {
		return nil
	}
	fd, at, err := listenTCP()
	if err != nil {
		return err
	}
	w.listener.w, w.listener.at = w, at
	if err := w.listener.Attach(w.loop, fd, &w.listener); err != nil {
		return errors.Join(err, fd.Close())
	}
	return nil
}

// open sets the plan going.
func (w *worker) open(p plan) {
	w.plan = p
	w.pacer.set(p.rate)
	w.wantPump()
}

// wantPump has runPump run in the next turn.
func (w *worker) wantPump() {
	if !w.pumping {
		w.pumping = w.loop.Post(w.pump) == nil
	}
}

// runPump opens the clients that come now, openPerTurn at most.
func (w *worker) runPump() {
	w.pumping = false
	for range openPerTurn {
		switch {
		case w.opened >= w.plan.total || w.full(): // full: the end of a client calls again
			return
		case !w.pacer.due():
			w.pacer.arm()
			return
		}
		w.openOne()
	}
	w.wantPump()
}

func (w *worker) full() bool {
	return w.plan.concurrency > 0 && uint64(len(w.live)) >= w.plan.concurrency
}

// openOne makes a client and its socket.
func (w *worker) openOne() {
	n := w.opened
	w.opened++
	w.counters.opened.Add(1)
	c := &client{w: w, role: w.conf.role(n), place: int32(len(w.live))}
	c.timer.Firer = c
	w.live = append(w.live, c)
	if w.conf.Expect.Prompt {
		c.prompt = w.makePrompt(n)
	}
	receiveBuffer := 0
	if c.role == stalls || c.role == trickles {
		receiveBuffer = slowReceiveBuffer
	}
	if w.conf.Client == Pair {
		end, server, err := socketPair(receiveBuffer)
		if err != nil {
			c.end(FaultConnect, err)
			return
		}
		if c.takeEnd(end) {
			w.gotServerEnd(c, server)
		} else {
			_ = server.Close()
		}
		return
	}
	end, at, err := connectTCP(w.sources[n%uint64(len(w.sources))], w.listener.at, receiveBuffer)
	if err != nil {
		c.end(FaultConnect, err)
		return
	}
	if c.takeEnd(end) {
		w.waiting[at] = c
		w.accept() // nearly always there already, which saves a wake-up
	}
}

// takeEnd puts the client's end to its place; false: the client is over.
func (c *client) takeEnd(end loop.FD) bool {
	if c.role == stalls || c.role == trickles {
		c.parked = end
		return true
	}
	if err := c.Attach(c.w.loop, end, c); err != nil {
		_ = end.Close()
		c.end(FaultConnect, err)
		return false
	}
	return true
}

// accept takes every server end that is there.
func (w *worker) accept() {
	for {
		fd, at, err := acceptTCP(w.listener.FD())
		if errors.Is(err, unix.EAGAIN) {
			return
		}
		if err != nil {
			w.note(FaultConnect, err)
			return
		}
		c := w.waiting[at]
		if c == nil { // its client met a fault meanwhile, or a stranger connected
			w.note(FaultConnect, fmt.Errorf("load: nobody waits for the connection of endpoint %#x", uint64(at)))
			_ = fd.Close()
			continue
		}
		delete(w.waiting, at)
		w.gotServerEnd(c, fd)
	}
}

func (w *worker) gotServerEnd(c *client, server loop.FD) {
	if c.state == over {
		_ = server.Close()
		return
	}
	c.server = server
	c.to(ready)
	if w.holdBack {
		w.prepared = append(w.prepared, c)
		return
	}
	c.handOver()
}

// release hands over everything that was held back, a turn's share at a time.
func (w *worker) release() {
	w.holdBack = false
	n := min(len(w.prepared), openPerTurn)
	for _, c := range w.prepared[:n] {
		if c.state == ready {
			c.handOver()
		}
	}
	w.prepared = w.prepared[n:]
	if len(w.prepared) > 0 {
		_ = w.loop.Post(w.release) // ErrClosed: the run is over
	}
}

// finish closes the client and counts it where it belongs. Once per client.
func (c *client) finish(counter *atomic.Uint64) {
	w := c.w
	c.to(over)
	w.loop.Stop(&c.timer)
	c.Retire()
	_ = c.parked.Close()
	_ = c.server.Close()
	last := w.live[len(w.live)-1]
	w.live[c.place], last.place = last, c.place
	w.live[len(w.live)-1] = nil
	w.live = w.live[:len(w.live)-1]
	counter.Add(1)
	if w.plan.concurrency > 0 {
		w.wantPump()
	}
}

// eachLive calls f for every open client; f may end it.
func (w *worker) eachLive(f func(c *client)) {
	for i := len(w.live) - 1; i >= 0; i-- { // finish moves the last one, already visited, into the gap
		f(w.live[i])
	}
}

// payload is what goes beside the descriptor; valid until the next call.
func (w *worker) payload(c *client) []byte {
	if !w.conf.Expect.Prompt {
		return w.nothing
	}
	return padPayload(`{"prompt":"`+c.prompt+`"`, w.conf.PayloadBytes)
}

// makePrompt gives words that are in no order but their own, and belong to this client only.
func (w *worker) makePrompt(n uint64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "w%d-%d", w.index, n)
	for i := range promptWords {
		fmt.Fprintf(&b, " %d%c", w.random.IntN(1000), 'a'+i)
	}
	return b.String()
}

// padPayload closes the JSON object that begins with start, and makes it size bytes long when it is shorter.
func padPayload(start string, size int) []byte {
	const field = `,"pad":"`
	pad := size - len(start) - len(field) - len(`"}`)
	if pad <= 0 {
		return []byte(start + "}")
	}
	return []byte(start + field + strings.Repeat("x", pad) + `"}`)
}

// note logs the first few faults of a kind.
func (w *worker) note(f Fault, err error) {
	w.shown[f]++
	if w.shown[f] <= faultsShown {
		slog.Warn("stream", "fault", f, "error", err, "worker", w.index)
	}
}
