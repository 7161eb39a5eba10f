// Package loop runs a small fixed pool of epoll event loops on netpoll. It is the only package that names netpoll.
//
//	          any goroutine
//	               | Post
//	               v
//	epoll --> one turn of a Loop: readiness -> posted -> timers -> sweep --> epoll
//	               |                 |            |         |
//	               v                 v            v         v
//	            Handler            func()      Firer    close(2) of what was retired
//
// Promises:
//
//   - Each Loop is one goroutine. Handlers, timers and posted functions of a loop never run at the same time, so
//     what only they touch needs no lock. They must not block: one that waits stops every client of its loop.
//   - Readiness is a hint and level-triggered: the syscall decides, and what is left unread is reported again.
//   - Nothing dies in the middle of a batch: a retired descriptor gets no further callback, and its number is not
//     free for reuse before the sweep that ends the turn.
//   - A panic in a callback costs its owner only: it is recovered, logged with its stack, the descriptor (if it was
//     a Handler's) is retired, and Failed is called.
//   - Posted functions run in the order in which one goroutine posted them, in the next turn at the latest.
//   - A timer never fires early. It fires at the end of its tick (see TickLength) or later; Loop.Lag tells how much.
//
// What it refuses to do: buffer, know what a descriptor is for, or start a goroutine or an allocation per event.
package loop
