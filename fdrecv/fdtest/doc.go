// Package fdtest helps tests that own descriptors: it counts them, makes connected pairs, and passes descriptors in
// ways that no decent sender would.
//
//	NoLeaks(t) ── first line of a test ──> at its end: same descriptors, same number of goroutines
//	TCPPair(t) ──> what the web server hands over  <──TCP──>  what the browser holds
//	SendFDs    ──> any bytes, any number of descriptors
//
// It imports testing, so only tests may import it.
package fdtest
