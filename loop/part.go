package loop

// EachPart is Each in parts, for a walk that must not hold the loop: it calls f with the handlers of up to n attached
// sources, and gives what to pass as from next time; 0: that was the last part. A walk begins with AllParts. f must not
// attach, detach or retire anything.
//
// Between two parts the loop goes on. A source that is attached during the whole walk is visited; one that is detached
// meanwhile may be missed, one attached meanwhile is missed, and one that is there may be visited twice: Detach moves
// the last of the list, already visited, into the gap. Loop goroutine only.
func (l *Loop) EachPart(from, n int, f func(Handler)) (next int) {
	i := min(from, len(l.sources))
	for ; i > 0 && n > 0; n-- {
		i--
		f(l.sources[i].handler)
	}
	return i
}

// AllParts begins a walk with EachPart.
const AllParts = int(^uint(0) >> 1)
