package h1

import "fmt"

// state is where a connection is in its life. to is the only writer of it.
type state uint8

const (
	stateNew        state = iota
	stateQueued           // a Unix socket whose listener's backlog is full: connect is tried again soon
	stateConnecting       // connect(2) is under way
	stateSending          // connected; the kernel has not taken all of the request
	stateAwaiting         // request sent; the response's head is not complete
	stateReading          // within the body
	statePaused           // within the body, out of epoll: the call is paused
	stateTail             // within the body, whose rest nobody needs: it is dropped, for a bounded time and length
	stateIdle             // kept for the next call
	stateClosed           // the descriptor is retired; nothing follows
	numStates
)

var stateNames = [numStates]string{"new", "queued", "connecting", "sending", "awaiting", "reading", "paused", "tail", "idle", "closed"}

func (s state) String() string { return stateNames[s] }

var legal = [numStates][numStates]bool{ // from, to
	stateNew:        {stateQueued: true, stateConnecting: true, stateSending: true, stateClosed: true},
	stateQueued:     {stateConnecting: true, stateSending: true, stateClosed: true},
	stateConnecting: {stateSending: true, stateClosed: true},
	stateSending:    {stateAwaiting: true, stateReading: true, stateClosed: true}, // reading: answered before it was all sent
	stateAwaiting:   {stateReading: true, stateClosed: true},
	stateReading:    {statePaused: true, stateTail: true, stateIdle: true, stateClosed: true},
	statePaused:     {stateReading: true, stateTail: true, stateIdle: true, stateClosed: true}, // idle: the rest was read already
	stateTail:       {stateIdle: true, stateClosed: true},
	stateIdle:       {stateSending: true, stateClosed: true},
}

// to moves c to next and keeps the counts and lists that depend on the state. It panics on an illegal step (our bug).
func (c *conn) to(next state) {
	if !legal[c.state][next] {
		panic(fmt.Sprintf("h1: illegal step %v -> %v", c.state, next))
	}
	if l := c.sh.listOf(c.state); l != nil {
		l.remove(c)
	}
	counts := &c.sh.counts
	switch {
	case c.state == stateNew:
		counts.open.Add(1)
	case c.state == stateIdle:
		counts.idle.Add(-1)
	case c.state == statePaused:
		counts.paused.Add(-1)
	}
	c.state = next
	switch next {
	case stateClosed:
		counts.open.Add(-1)
	case stateIdle:
		counts.idle.Add(1)
	case statePaused:
		counts.paused.Add(1)
	}
	if l := c.sh.listOf(next); l != nil {
		l.push(c)
	}
}
