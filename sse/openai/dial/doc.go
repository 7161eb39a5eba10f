// Package dial makes the connections of the transports that have goroutines per
// connection: TCP or a Unix socket, through a proxy where the environment names
// one, and TLS on top where the target wants it.
//
//	Dial ──name, connect──> proxy ──CONNECT──> target ──TLS, ALPN──> net.Conn
//	            or ────────────────────────────^
//
// All of it blocks, under one timeout. What fails comes as one of package
// upstream's errors, and in words that hold nothing of what the far end sent.
package dial
