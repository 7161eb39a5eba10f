// Command goroutines is the classic design that the daemon replaces, to be measured against: one goroutine per client.
//
//	net.UnixListener --accept--> goroutine: ReadMsgUnix, net.FileConn --> timer, SetWriteDeadline, Write, timer, ...
//
// It is written as a good Go program of that design would be, with the standard library only, and sends the same
// bytes on the same schedule as the daemon's demo backend. It takes the daemon's flags; those that mean nothing here
// are accepted.
//
// With -backend openai it relays a chat completion stream instead, by net/http, and has a second goroutine per client
// that reads: without one a client that has gone would be paid for until the next event.
//
//	goroutine: http.Client.Do, bufio.Reader, encoding/json, Write      goroutine: Read, cancel
//
// What the design leaves out, here as elsewhere: without -backend openai a client that has gone is noticed at the next
// write (a second goroutine per client to read would double the cost), there is no bound on clients, and no metrics.
package main
