package conn

import "fmt"

// state is where a Conn is in its life. to is the only writer of it.
type state uint8

const (
	stateNew       state = iota // not opened
	stateOpen                   // events are welcome
	statePaused                 // pending reached the high watermark, or the turn's budget is spent: the owner is paused
	stateFlushing               // Finish was called, bytes are still pending
	stateLingering              // write side shut; client bytes are read and dropped, for a bounded time
	stateClosed                 // the descriptor is retired; nothing follows
	numStates
)

var stateNames = [numStates]string{"new", "open", "paused", "flushing", "lingering", "closed"}

func (s state) String() string { return stateNames[s] }

var legal = [numStates][numStates]bool{ // from, to
	stateNew:       {stateOpen: true},
	stateOpen:      {statePaused: true, stateFlushing: true, stateLingering: true, stateClosed: true},
	statePaused:    {stateOpen: true, stateFlushing: true, stateLingering: true, stateClosed: true},
	stateFlushing:  {stateLingering: true, stateClosed: true},
	stateLingering: {stateClosed: true},
}

// to moves c to next and keeps the counts and lists that depend on the state. It panics on an illegal step (our bug).
func (c *Conn) to(next state) {
	if !legal[c.state][next] {
		panic(fmt.Sprintf("conn: illegal step %v -> %v", c.state, next))
	}
	sh := c.shard
	switch c.state {
	case statePaused:
		sh.counts.paused.Add(-1)
	case stateLingering:
		sh.lingering.remove(c.out)
	}
	c.state = next
	switch next {
	case stateOpen:
	case statePaused:
		sh.counts.paused.Add(1)
	case stateLingering:
		c.borrow()
		c.out.since = sh.loop.Now()
		sh.lingering.push(c.out)
	case stateClosed:
		c.giveBack()
	}
}
