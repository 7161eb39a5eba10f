package load

import "time"

// Lateness runs observe over reads of a stream, each the time at which it brought the next events, and gives what was
// recorded.
func Lateness(delay time.Duration, reads []time.Duration, events []int) (lateness, gap Latency) {
	w := &worker{conf: Config{Delay: delay}, recordEvents: true, latencies: NewLatencies()}
	c := &client{w: w}
	first := 0
	for i, at := range reads {
		c.observe(first, events[i], at)
		first += events[i]
	}
	return w.latencies.Lateness, w.latencies.Gap
}

// Roles counts what the first n clients of conf would do.
func Roles(conf Config, n uint64) (readers, stallers, tricklers, leavers int) {
	for i := range n {
		switch conf.role(i) {
		case reads:
			readers++
		case stalls:
			stallers++
		case trickles:
			tricklers++
		case leaves:
			leavers++
		}
	}
	return readers, stallers, tricklers, leavers
}
