// Package streamtest runs a stream.Server on real loops for tests of the server itself and of backends.
//
//	New(t) ──> Rig: loops, server; at the end of the test nothing may be left: no client, no count, no descriptor
//	Rig.TCP, Rig.Unix ──> Client: the browser's end of a socket whose other end has been handed off
//	Script ──> a backend that is the test's own funcs, and checks how it is called
//	Kernel ──> the real kernel under package conn, but every write is recorded, and can be refused
//
// It imports testing, so only tests may import it.
package streamtest
