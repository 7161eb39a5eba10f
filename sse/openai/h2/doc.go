// Package h2 carries calls over HTTP/2: over TLS, where the server's ALPN offers
// it, or in plain text by prior knowledge. Many calls share a connection.
//
//	loop ──Start──> Transport ──a conn with room, or dial──> conn ──writer──> upstream
//	                  | waiting calls, conns                  |                  |
//	loop <── batch (one per turn and loop) <──its own loop────'<─────frames──────'
//	 '── call ──Body──> Receiver; what it took is given back as WINDOW_UPDATE
//
// A goroutine dials: name, proxy, TLS handshake and greeting. Then a loop has the
// connection: when bytes have come it takes the frames that are whole, through
// crypto/tls, for which nothing-there is a temporary error (dial.Socket). Calls
// of that loop are told at once, those of others by PostSoon. A goroutine writes
// for as long as there is something to write. So a connection whose calls only
// listen has no goroutine. A call has none in any case: it is some 200 bytes, a
// place in its connection's table, and its share of the batches. Measured with
// 10,000 calls of an event per second on 40 connections: 15.0 us of CPU per
// event with a reading goroutine for each connection, 11.9 so.
//
// Flow control. What arrives is copied into a batch and counted twice. The
// connection's window is filled up at once: it must never be the reason why a
// call waits for another. The call's own window is given back as the receiver
// takes the bytes, and not at all while it is paused. So a paused call gets one
// window (Config.StreamWindow) of further bytes and then silence, at its own
// cost alone; and a loop that lags holds back its calls, with no more than one
// window for each in memory.
//
// A call is sent a second time only when its server cannot have acted on it:
// above the last stream of a GOAWAY, after REFUSED_STREAM, or on a kept
// connection that turns out to have been dead before the request. Never a third
// time.
//
// A server that offers no HTTP/2 is left to Config.Fallback.
//
// Locks: Transport.mu, then conn.mu, each held for some microseconds and across no
// system call but the start of one's goroutine. Loops, readers and writers take
// them.
package h2
