// Package fdrecv receives handoffs: the descriptor of a client socket and a JSON payload, passed by a web server over
// a Unix socket. It also has the sending side.
//
//	web server                    one loop                                          its owner
//	connect ──> backlog ──> Listener: accept4, recvmsg ── complete ──> close ──> Config.Handoff(Handoff)
//	sendmsg                        │                                     ^
//	 (SCM_RIGHTS + payload)        └─ not all there yet ─> pending ──────┘  (or its timeout)
//	close                                                  on epoll
//
// Promises:
//
//   - Each connection ends in exactly one Handoff. Its client socket is usable (Err is nil), or is one that still
//     deserves an answer (Err says which), or there is none. Every other descriptor that came is closed.
//   - A complete handoff costs no registration with epoll and no timer: the payload is nearly always there when the
//     connection is accepted. A handoff socket is closed in the turn in which its handoff ends.
//   - A turn accepts at most a budget, an incomplete handoff has a deadline, and the number of those is bounded.
//   - When descriptors run out, the listener waits: handoffs stay in the kernel, in the backlog or in their own socket
//     when the accept has had the last descriptor. None is dropped.
//   - Drain loses nothing that a sender believes delivered.
//
// What it refuses to do: decide what a client hears, write to a client socket or set an option on it, know which
// response headers are valid.
package fdrecv
