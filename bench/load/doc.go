// Package load plays the web server and the browsers at once: it opens client sockets, hands their server ends to a
// daemon over its handoff socket, reads every stream, and checks it.
//
//	          +--------------- Worker (one loop) ---------------+
//	          |  open: connect, accept, hand over               |
//	daemon <--+-- server end + payload                          |
//	  |       |                                                 |
//	  +--TCP--+-> client end --> check (head, events, [DONE])   |
//	          |        '-------> latencies                      |
//	          +-------------------------------------------------+
//
// A Fleet is all workers together. Everything that is said about a client happens on its worker's loop: there is no
// goroutine and no lock per client, so that the harness costs less than what it measures.
//
// Promises: a stream that is short, torn, reordered or not the one that was asked for counts as a fault, never as a
// sample; every client that was opened is accounted for exactly once, as finished, left or a fault.
//
// What it refuses to do: look into the daemon. It knows the socket, and the bytes in package wire.
package load
