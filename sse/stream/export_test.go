package stream

import "time"

// TimeLooks tells f, on the loop, how long each part of a List took there, until undo. Not while a List runs.
func TimeLooks(f func(time.Duration)) (undo func()) {
	was := look
	look = func(sh *shard, p *part) {
		begun := time.Now()
		was(sh, p)
		f(time.Since(begun))
	}
	return func() { look = was }
}
