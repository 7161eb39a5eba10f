package h2

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/dial"
	"streaming-daemon-go/sse/openai/upstream"
)

// state is where a connection is in its life. conn.to is the only writer of it.
type state uint8

const (
	stateOpen     state = iota
	stateDraining       // takes no more calls, ends with its last one: GOAWAY, or no stream ids left
	stateClosed         // its calls are over or will be told so by its reader; the writer may still say goodbye
	numStates
)

var stateNames = [numStates]string{"open", "draining", "closed"}

func (s state) String() string { return stateNames[s] }

var legal = [numStates][numStates]bool{ // from, to
	stateOpen:     {stateDraining: true, stateClosed: true},
	stateDraining: {stateClosed: true},
}

const (
	streamsMax  = 4096                 // calls on a connection, whatever its server allows: one loop reads for all of them
	movesMax    = 3                    // a call that was not sent yet is moved so often: a server that ends every connection has no end
	readBytes   = frameMax + headBytes // a whole frame must fit; a TLS record holds no more either (RFC 8446, 5.1)
	readsTurn   = 64                   // reads per turn of the loop: others wait
	outTurn     = 64 << 10             // bytes written at a time
	outMax      = 256 << 10            // bytes that may wait for the writer: answers to pings and the like, which the server does not read
	outKept     = 16 << 10             // capacity of a write buffer that is kept
	frameMax    = 16 << 10             // bytes of a frame's payload, both ways: the least that everyone takes (RFC 9113, 4.2)
	connWindow  = 1 << 20              // bytes in flight on a connection; refilled as they arrive, so the distance sets it: 10 MB/s at 100 ms
	writeWait   = 10 * time.Second     // for outTurn bytes to be taken by the kernel
	byeWait     = time.Second          // the same for the last ones
	releaseWait = time.Second          // for the end of a response whose rest nobody needs
)

const _ = uint(outMax - outTurn - 1) // fails to compile unless a turn's worth fits

// conn is one connection. Its reader is one loop, once moveToLoop has given it the socket; before, the goroutine that
// dials.
type conn struct {
	t   *Transport   // immutable
	nc  net.Conn     // immutable; with TLS where there is any
	raw *dial.Socket // immutable; the bottom of nc: its Close does not block, and ends every read and write
	sh  *shard       // immutable once it is in Transport.conns: of the loop that reads

	opened time.Duration // loop clock; guarded by Transport.mu

	// owned by the reader
	fd     loop.FD // from take until the source has it
	source loop.Source
	over   bool // end has been called
	hungUp bool // the source reports no more: what is left is read all the same
	br     *bufio.Reader
	in     *http2.Framer
	block  block
	mail   *mail
	window int32 // bytes that the server may still send

	heardAt atomic.Int64  // loop clock: the last read
	frames  atomic.Uint64 // that have come; written by the reader

	mu        sync.Mutex
	state     state
	cause     error            // why it is closed, said to its calls; nil: the reader finds out
	streams   map[uint32]*call // sent and not over; those released included
	opening   []*call          // accepted and not sent, in order
	sending   []*call          // with body left to send and room in their own window, in turn
	used      int              // len(streams) + len(opening)
	idleSince time.Duration    // loop clock; valid while used is 0
	released  []*call          // whose rest is dropped, in order; some may be over
	nextID    uint32           // of the next stream
	lastID    uint32           // the last one that the server will look at (GOAWAY); streamIDMax before
	pingAt    time.Duration    // loop clock: a ping is out since then; 0: none is
	freed     bool             // a place was freed in this critical section

	// guarded by mu: what the server has set (RFC 9113, section 6.5.2), and what is to be written
	limit       uint32 // MAX_CONCURRENT_STREAMS, at most streamsMax
	sendInitial int32  // INITIAL_WINDOW_SIZE
	listMax     uint32 // MAX_HEADER_LIST_SIZE
	sendWindow  int64  // bytes of all bodies that it takes
	out         buffer // whole frames, in order
	fr          *http2.Framer
	enc         *hpack.Encoder
	fields      buffer // where enc writes
	spare       []byte // the next out
	writing     bool   // a writer runs, and looks again before it ends
	bye         bool   // it closes nc in the end
}

// buffer is where framers write.
type buffer struct{ b []byte }

func (b *buffer) Write(p []byte) (int, error) {
	b.b = append(b.b, p...)
	return len(p), nil
}

func newConn(t *Transport, nc net.Conn, raw *dial.Socket) *conn {
	c := &conn{
		t: t, nc: nc, raw: raw,
		br:          bufio.NewReaderSize(nc, readBytes),
		window:      connWindow,
		streams:     make(map[uint32]*call),
		nextID:      1,
		lastID:      streamIDMax,
		limit:       streamsMax,
		sendInitial: windowDefault,
		listMax:     1<<32 - 1,
		sendWindow:  windowDefault,
	}
	c.mail = newMail(t, c)
	c.in = http2.NewFramer(nil, c.br)
	c.in.SetReuseFrames()
	c.in.SetMaxReadFrameSize(frameMax)
	c.fr = http2.NewFramer(&c.out, nil)
	c.enc = hpack.NewEncoder(&c.fields)
	c.block.init()
	return c
}

// to moves c to next. It panics on an illegal step (our bug). mu is held.
func (c *conn) to(next state) {
	if !legal[c.state][next] {
		panic(fmt.Sprintf("h2: illegal step %v -> %v", c.state, next))
	}
	c.state = next
}

// with runs f under the lock and then tells the pool of places that it has freed. Not for those who hold Transport.mu.
func (c *conn) with(f func()) {
	if c.locked(f) {
		c.t.freed()
	}
}

func (c *conn) locked(f func()) (freed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	freed, c.freed = c.freed, false
	return freed
}

// accept takes a call over, if there is room. Transport.mu is held.
func (c *conn) accept(cl *call) (ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == stateOpen && int64(c.nextID)+2*int64(len(c.opening)) > streamIDMax {
		c.drain()
	}
	if c.state != stateOpen || c.used >= int(c.limit) {
		return false
	}
	c.used++
	c.opening = append(c.opening, cl)
	c.kick()
	return true
}

// idle: no call has to do with it.
func (c *conn) idle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.used == 0
}

func (c *conn) limitNow() uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit
}

// drain lets no call in any more. mu is held.
func (c *conn) drain() {
	if c.state == stateOpen {
		c.to(stateDraining)
	}
	if c.state == stateDraining && c.used == 0 {
		c.close(http2.ErrCodeNo, nil)
	}
}

// forget ends the account of a call. mu is held. One that was never sent is taken out of those to be opened.
func (c *conn) forget(cl *call) {
	if cl.id == 0 {
		c.opening = remove(c.opening, cl)
	} else {
		delete(c.streams, cl.id)
		if cl.req != nil && !cl.parked {
			c.sending = remove(c.sending, cl)
		}
	}
	cl.id, cl.parked = 0, false
	c.less(1)
	if len(c.opening) > 0 { // the server may take one more now
		c.kick()
	}
}

// less: n calls are no longer c's. mu is held.
func (c *conn) less(n int) {
	c.used -= n
	c.freed = true
	if c.used > 0 {
		return
	}
	c.idleSince = c.t.clock()
	if c.state == stateDraining {
		c.drain()
	}
}

func remove(list []*call, c *call) []*call {
	if i := slices.Index(list, c); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// has reports whether cl is c's. mu is held. It is for those whose knowledge may be late; what they ask about was given
// up or has been answered, so that no other connection gets it meanwhile.
func (c *conn) has(cl *call) bool {
	return cl.id != 0 && c.streams[cl.id] == cl || cl.id == 0 && slices.Contains(c.opening, cl)
}

// cancel ends a stream for the server. Any goroutine.
func (c *conn) cancel(cl *call) {
	c.with(func() {
		if c.has(cl) {
			c.reset(cl, http2.ErrCodeCancel)
			cl.req = nil
		}
	})
}

// reset forgets cl and tells the server. mu is held.
func (c *conn) reset(cl *call, code http2.ErrCode) {
	if cl.id != 0 {
		_ = c.fr.WriteRSTStream(cl.id, code)
		c.kick()
	}
	c.forget(cl)
}

// release drops the rest of cl's response: what its window allows, for a bounded time. Loop goroutine only.
func (c *conn) release(cl *call) {
	c.with(func() {
		if c.has(cl) {
			cl.released = c.t.clock()
			c.released = append(c.released, cl)
			c.t.keeper.wake()
		}
	})
}

// giveBack lets the server send n more bytes of cl. Loop goroutine only.
func (c *conn) giveBack(cl *call, n int32) {
	c.with(func() {
		if c.has(cl) {
			cl.recvWindow += n
			_ = c.fr.WriteWindowUpdate(cl.id, uint32(n))
			c.kick()
		}
	})
}

// goodbye closes the connection, in order if the server reads. Its calls fail with cause. Any goroutine.
func (c *conn) goodbye(cause error) {
	c.with(func() { c.close(http2.ErrCodeNo, cause) })
}

// close says goodbye with a code; the writer closes nc after it, which ends the reader. mu is held; twice is safe.
func (c *conn) close(code http2.ErrCode, cause error) {
	if c.state == stateClosed {
		return
	}
	c.to(stateClosed)
	c.cause, c.bye = cause, true
	_ = c.fr.WriteGoAway(0, code, nil)
	_ = c.raw.SetWriteDeadline(time.Now().Add(byeWait)) // of a write under way
	c.kick()
}

// abort closes the connection at once: it is dead. Any goroutine.
func (c *conn) abort(cause error) {
	c.with(func() {
		if c.state != stateClosed {
			c.to(stateClosed)
			c.cause = cause
		}
	})
	_ = c.raw.Close()
}

// greet sends the preface and reads the server's settings, which come first (RFC 9113, section 3.4). Before them nobody
// knows how many streams the server takes, and those over its limit would be refused.
func (c *conn) greet(deadline time.Time) error {
	if err := c.nc.SetDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", upstream.ErrConnect, err)
	}
	_ = c.fr.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(c.t.cfg.StreamWindow)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: listMax},
	)
	_ = c.fr.WriteWindowUpdate(0, connWindow-windowDefault)
	_, err := c.nc.Write(append([]byte(http2.ClientPreface), c.out.b...))
	c.out.b = c.out.b[:0]
	if err != nil {
		return greetError(err)
	}
	f, err := c.in.ReadFrame()
	if err != nil {
		return greetError(err)
	}
	settings, ok := f.(*http2.SettingsFrame)
	if !ok || settings.IsAck() {
		return fmt.Errorf("%w: the connection begins with %v", upstream.ErrProtocol, f.Header().Type)
	}
	c.heardAt.Store(int64(c.t.clock()))
	if err := c.nc.SetDeadline(time.Time{}); err != nil {
		return fmt.Errorf("%w: %w", upstream.ErrBroken, err)
	}
	if err := c.take(); err != nil { // before the answer to them, which a writer of its own sends
		return fmt.Errorf("%w: %w", upstream.ErrBroken, err)
	}
	return c.takeSettings(settings)
}

func greetError(err error) error {
	var timeout net.Error
	var wire http2.ConnectionError
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Errorf("%w: no settings", upstream.ErrConnectTimeout)
	case errors.As(err, &wire), errors.Is(err, http2.ErrFrameTooLarge):
		return fmt.Errorf("%w: not HTTP/2", upstream.ErrProtocol)
	}
	return fmt.Errorf("%w: before its settings: %w", upstream.ErrConnect, err)
}
