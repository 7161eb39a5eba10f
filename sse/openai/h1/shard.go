package h1

import (
	"sync/atomic"
	"time"

	"streaming-daemon-go/loop"
	"streaming-daemon-go/sse/openai/upstream"
)

// Limits that are not settings.
const (
	readBytes   = 64 << 10              // bytes of one recv, and of what a connection reads per turn; the contract's largest Body
	turnWrites  = 4                     // send calls likewise
	tailBytes   = 16 << 10              // bytes of a released body that are read for the connection's sake: [DONE] is nearly its end
	tailTimeout = time.Second           // for them to come
	queueRetry  = 10 * time.Millisecond // between attempts at a Unix socket with a full backlog: no readiness tells
	headKept    = 4 << 10               // bytes of a request's head that the scratch buffer keeps room for
)

// shard is what the connections of one loop share: they are pooled per loop, so that none of this needs a lock.
type shard struct {
	t    *Transport // immutable
	loop *loop.Loop // immutable

	// owned by the loop
	queued, connecting, tails, idle waitList
	unresolved                      []*call // wait for the name; nil exactly while no lookup was asked for
	closed                          bool    // Transport.Close: keep nothing
	scratch                         []byte  // request heads are made here
	buf                             [readBytes]byte

	counts counts
}

// counts has one writer, the loop, and any number of readers.
type counts struct {
	open, idle, calls, paused atomic.Int64
	dials, reused, retried    atomic.Uint64
	bytesIn                   atomic.Uint64
}

func newShard(t *Transport, l *loop.Loop) *shard {
	sh := &shard{t: t, loop: l, scratch: make([]byte, 0, headKept)}
	sh.queued.init(l, queueRetry, (*conn).connectAgain)
	sh.connecting.init(l, t.cfg.ConnectTimeout, (*conn).connectTimedOut)
	sh.tails.init(l, tailTimeout, (*conn).close)
	sh.idle.init(l, t.cfg.IdleTimeout, (*conn).close)
	return sh
}

// listOf is the list that a connection in state s is on, nil for none.
func (sh *shard) listOf(s state) *waitList {
	switch s {
	case stateQueued:
		return &sh.queued
	case stateConnecting:
		return &sh.connecting
	case stateTail:
		return &sh.tails
	case stateIdle:
		return &sh.idle
	}
	return nil
}

// begin finds a connection for a new call: the one that became idle last, which is the least likely to be dead.
func (sh *shard) begin(c *call) {
	if c.failLater(sh.closedError()) {
		return
	}
	if cn := sh.idle.last; cn != nil {
		sh.counts.reused.Add(1)
		cn.serve(c)
		return
	}
	sh.dial(c)
}

func (sh *shard) closedError() error {
	if sh.closed {
		return upstream.ErrClosed
	}
	return nil
}

// dial makes a connection for c, once the name is known.
func (sh *shard) dial(c *call) {
	addrs, err, ok := sh.t.names.get(sh)
	switch {
	case !ok:
		sh.unresolved = append(sh.unresolved, c)
	case err != nil:
		c.failLater(err)
	default:
		sh.connect(c, addrs, false)
	}
}

// resolved goes on with the calls that wait for the name. Posted by the resolver.
func (sh *shard) resolved() {
	waiting := sh.unresolved
	sh.unresolved = nil
	for _, c := range waiting {
		if c.to != nil { // else it was cancelled meanwhile
			sh.dial(c)
		}
	}
}

// connect begins a connection for c to the first of addrs; the rest is tried when that fails. rerouted: one has failed.
func (sh *shard) connect(c *call, addrs addresses, rerouted bool) {
	cn := &conn{sh: sh, addrs: addrs, rerouted: rerouted}
	cn.bind(c)
	cn.begun = sh.loop.Now()
	cn.connect()
}

// keep makes cn, whose response is complete, idle, or closes it.
func (sh *shard) keep(cn *conn) {
	if sh.closed || sh.t.cfg.IdleMax <= 0 {
		cn.close()
		return
	}
	if !cn.source.Attached() { // complete while paused
		if !cn.attach() {
			return
		}
	}
	cn.to(stateIdle)
	if sh.idle.len > sh.t.cfg.IdleMax {
		sh.idle.first.close()
	}
}

// close ends what waits. Posted by Transport.Close.
func (sh *shard) close() {
	sh.closed = true
	for sh.idle.first != nil {
		sh.idle.first.close()
	}
	for sh.tails.first != nil {
		sh.tails.first.close()
	}
	waiting := sh.unresolved
	sh.unresolved = nil
	for _, c := range waiting {
		c.fail(upstream.ErrClosed)
	}
	for _, l := range []*waitList{&sh.queued, &sh.connecting} {
		for l.first != nil {
			l.first.fail(upstream.ErrClosed)
		}
	}
}
