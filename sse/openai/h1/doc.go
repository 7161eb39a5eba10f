// Package h1 carries calls over HTTP/1.1, on TCP and Unix sockets without TLS,
// as state machines on the event loops.
//
//	Start ──> shard (one per loop) ──idle one, or names, then dial──> conn ──send──> upstream
//	             |  deadlines, pool, one read buffer                   |  '<─Readable─'
//	             '── call <──Head, Body, End, Fail── head, body <──────'
//
// A call costs its own small struct, a connection and no goroutine. Responses
// are read into one buffer per loop and given to the receiver in place; nothing
// is kept of one but the start of a head that came in pieces.
//
// Connections are kept per loop, so that taking one needs no lock and a call
// never changes its loop. A call that was sent on a kept connection which turns
// out to be dead is sent once more, if nothing of a response was seen.
//
// A paused connection leaves epoll, since the loop cannot turn read interest
// off, and comes back with a fresh attachment: bytes and the end that came
// meanwhile are still in the kernel and are reported then.
//
// The only goroutine is the one that looks a name up, while it does.
package h1
