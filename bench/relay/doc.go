// Package relay measures how a target relays chat completion streams: many at
// a time, an event a second each, from an upstream that is a process of its own.
//
//	clients (this process) <──SSE── target <──HTTP── mockllm
//	          '── handoffs ──────────^
//
// Each run starts its own mockllm and its own target. Every stream is checked
// to the byte and to its end. After the streams a few more clients leave, and
// mockllm says when it heard of it.
//
// Over HTTP/1.1 a stream takes two descriptors of the target, one of each of
// the others.
package relay
