// Package conn drives one client socket as a state machine: what is written to it, how long it may take, how it ends.
//
//	stream --Queue, Flush, Finish--> Conn --send--> client socket
//	   ^--Paused, Resumed, Ended--'   |  '--Readable, Writable, Hangup-- loop
//	                                  |
//	                    Shard (one per loop): deadlines, outboxes, counts
//	                                  |
//	                    Budget (one per process): bytes that wait for all clients
//
// A write goes straight to the kernel; only what the kernel does not take waits, in an outbox that is borrowed from
// the shard for as long as something waits. An idle Conn owns no buffer, no timer and no goroutine. Bytes given by
// Queue are referenced, not copied: one encoded event can wait in ten thousand outboxes and exist once.
//
// An owner is paused for one of two reasons: too much waits for the client (the high watermark), or this Conn has had its
// share of the turn, in bytes or in send calls. One that sends on all the same is not refused, but its bytes wait.
//
// A Conn lives on one loop from Open to Released. Nothing here may be called from elsewhere, unless its comment says
// so: use Loop.Post.
//
// Socket options (a TCP client socket; each one is a syscall per stream, so the list is short):
//
//	TCP_NOTSENT_LOWAT  16 KiB: the kernel takes no more than this beyond what the client's window lets it send. A
//	                   client that never reads held 3.9 MB of kernel memory without it and 127 KB with it (measured).
//	TCP_USER_TIMEOUT   the write timeout: a client that vanished without a FIN would keep its slot for about 15
//	                   minutes of retransmissions (tcp(7)).
//
// Not set, because Apache has set them (P-05, and any sender must): O_NONBLOCK (we do not need it: every call carries
// MSG_DONTWAIT), TCP_NODELAY, SO_KEEPALIVE.
package conn
