// Package demo is the backend for trying the daemon and for load tests.
//
//	Options.Messages == 0: "Hello! You said: " and the prompt, a word at a time
//	Options.Messages == N: N equal events of about 50 bytes, the same bytes for every stream
//
// Either way an event each Options.Delay, the first at once, [DONE] with the last.
package demo
