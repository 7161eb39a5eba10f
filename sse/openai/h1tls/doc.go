// Package h1tls carries calls over HTTP/1.1 and TLS, for servers that offer no
// HTTP/2. It is the one transport that costs goroutines per call: a bounded
// number of them.
//
//	loop ──Start──> waiting ──> worker (CallsMax at most) ──net/http──> upstream
//	loop <──Post── a piece at a time, the next one when it was taken <──┘
//
// TLS wants a goroutine that reads, and HTTP/1.1 one connection for each call,
// so that there is nothing to share. A worker carries one call, then the next
// one that waits, and ends when none does; net/http keeps two goroutines of its
// own for each connection. Past CallsMax, calls wait, and the caller's timeout
// for the first byte bounds how long. A server for more calls than that should
// offer h2.
//
// A worker reads the next piece when the loop has handed the last one to a
// receiver that is not paused. So a paused call holds one piece of 16 KiB and
// what the kernel's buffers take; its upstream waits.
package h1tls
