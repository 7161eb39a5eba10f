package main

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
)

// descriptors says how the limit on open files is shared out.
type descriptors struct {
	room          int // clients, and connections to upstreams, that the limit can carry
	upstreams     int // connections with a completion at most; never more than streams
	idleConns     int // to upstreams, kept by one loop and upstream
	total         int // the limit
	rejectReserve int // clients being refused
	pendingMax    int // incomplete handoffs, per listener
}

// descriptorsOther is what the process needs beside clients and incomplete handoffs: standard streams, three for each
// loop, scrapes, the front, and for each handoff socket what one turn accepts: a client that hangs up gives its place
// away at once, but its descriptor is closed at the end of the turn, after the next clients have come in.
func descriptorsOther(loops, listeners int) int { return 96 + 3*loops + listeners*fdrecv.AcceptBudget }

// rejectReserveMin is what two turns accept: a refused client that leaves as soon as it has its answer is seen to have
// left in the next turn only, and the listener may come first in that one. With less, clients that do everything right
// are closed without an answer.
const rejectReserveMin = 2 * fdrecv.AcceptBudget

// streams is how many are possible of those asked for. Fewer is one warning.
func (d *descriptors) streams(asked int, log *slog.Logger) int {
	possible := d.streamsPossible()
	if asked > possible {
		log.Warn("the limit on open files cannot carry -max-connections: fewer streams are possible (raise LimitNOFILE= in the unit, or ulimit -Hn)",
			"max_connections", asked, "possible", possible, "limit_open_files", d.total)
	}
	return min(asked, possible)
}

// streamsPossible is the most streams s for which s + min(s, d.upstreams) descriptors are within the room.
func (d *descriptors) streamsPossible() int { return max(d.room/2, d.room-d.upstreams) }

// idleShare of the limit on open files is what idle connections to upstreams may take: streams are worth more.
const idleShare = 160

// shareDescriptors raises the limit on open files to the hard limit and shares it out.
func shareDescriptors(loops, listeners int, need upstreamNeed) (descriptors, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return descriptors{}, fmt.Errorf("getrlimit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return descriptors{}, fmt.Errorf("raising the limit on open files to its hard limit %d: %w", limit.Max, err)
	}
	total := int(min(limit.Max, 1<<30))
	d := descriptors{
		total:         total,
		rejectReserve: min(max(total/32, rejectReserveMin), 1024),
		pendingMax:    min(max(total/128, 8), 512),
		upstreams:     need.conns,
	}
	idle := 0
	if pools := loops * need.pools; pools > 0 {
		d.idleConns = min(need.idleConns, total/idleShare/pools)
		idle = d.idleConns * pools
	}
	pending := 2 * d.pendingMax * listeners // the handoff socket, and the client that came over it
	d.room = total - descriptorsOther(loops, listeners) - d.rejectReserve - pending - idle
	if d.streamsPossible() < 1 {
		return d, fmt.Errorf("the limit on open files is %d, too low for any stream: raise it (LimitNOFILE= in the unit, ulimit -Hn)", total)
	}
	return d, nil
}
