// Package daemontest builds the daemon and runs it for tests that put a real program in front of it.
//
//	TestMain ── Main ──> go build, once per package
//	   test ── Start ──> the process, with sockets in a directory of its own ── end of the test ──> SIGTERM, exit code 0
//
// The daemon is built with the race detector when the tests run under it. Tests of the daemon alone have a richer
// harness of their own beside its main package.
package daemontest
