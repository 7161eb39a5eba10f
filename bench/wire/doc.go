// Package wire holds the bytes that every target of the load harness sends, in one place: the daemon's demo backend is
// checked against it, bench/goroutines imports it, and bench/floor is compiled with it.
//
//	Head Event | Event | Event | ... | Event Done     one write(2) each, -demo-delay apart
package wire
