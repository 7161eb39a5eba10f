// Command goroutines is the classic design that the daemon replaces, to be measured against: one goroutine per client.
//
//	net.UnixListener --accept--> goroutine: ReadMsgUnix, net.FileConn --> timer, SetWriteDeadline, Write, timer, ...
//
// It is written as a good Go program of that design would be, with the standard library only, and sends the same
// bytes on the same schedule as the daemon's demo backend. It takes the daemon's flags; those that mean nothing here
// are accepted.
//
// What the design leaves out, here as elsewhere: a client that has gone is noticed at the next write (a second
// goroutine per client to read would double the cost), there is no bound on clients, and no metrics.
package main
