// Package scenario runs one load scenario against one target and says what it measured.
//
//	Options --Run--> load.Fleet <--streams--> target.Process
//	                     |                        |
//	                     '----> Result <----------'
//	                  latencies, faults      CPU, memory, descriptors
//
// The scenarios:
//
//   - hold:  N clients come at a rate and stay; memory per stream while they do, and after they have gone.
//   - paced: the same, with an event for each client each Delay; CPU per event and lateness.
//   - churn: short streams at a bounded concurrency, as fast as they go; CPU per stream and time to first byte.
//   - slow:  a share of the clients reads slowly or not at all; the others, held against a run without them.
//   - leave: a share closes at a random point of its stream; the others must end whole.
//   - storm: N handoffs at once, then all clients leave at once; nothing lost, nothing left behind.
package scenario
