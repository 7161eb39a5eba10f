// Package upgrade puts a new process in the place of a running one, without a moment in which nobody listens.
//
//	predecessor                                        successor
//	Start: exec, with one end of a socket pair ──────> Inherit
//	  hello, and each listening socket (SCM_RIGHTS) ─>   adopts them, accepts nothing yet
//	                                        <─ ready     Ready: could serve this instant (or: failed, and why)
//	  accept: from here on it is the successor's ────>   accepts handoffs
//	                                    <─ accepting     Accepting
//	lets go of its handoff sockets and HTTP listeners
//	Release ── released, with its counts ────────────>   Released: accepts HTTP
//	drains ─── counts, now and then ─────────────────>   adds them to its own
//	                                         <─ stop     Stop: the successor is itself about to end
//	ends ───── the end of the socket pair ───────────>   Gone
//
// Promises:
//
//   - Up to accept, either side may fail, and the predecessor goes on as if nothing had happened: it has accepted all
//     the time, and the successor, which has not, is ended. Start says why.
//   - Sockets stay open on one side or the other from the first step to the last, so connects are never refused.
//   - The successor has the standard streams and its end of the socket pair, and no other descriptor of its
//     predecessor's; what is meant for it comes through the pair.
//   - A predecessor that dies after it has seen ready leaves everything to the successor; one that dies before it
//     has sent all ends the successor.
//
// What it refuses to do: know what a socket is for, serve, drain, count, or decide when.
//
// The messages are JSON, one to a packet; one that is not known is passed over, so that two versions understand each
// other as long as the number in hello is the same. Open streams could be handed over between accepting and released
// in the same way as the sockets before.
package upgrade
