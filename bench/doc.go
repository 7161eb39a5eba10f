// Command bench loads the daemon as a web server and its browsers would, measures it from outside, and compares it with
// two other designs.
//
//	go run ./bench -daemon bin/streaming-daemon -scenario paced -streams 5000 -report paced.html
//	go run ./bench -pid 4711 -socket /run/streaming-daemon.sock -socket-type stream -scenario churn
//	go run ./bench compare -out bench/results
//	go run ./bench relay -json bench/results/relay.json
//
//	       +----------- bench ------------+        +- target ----------------+
//	       | load: clients, handoffs ...  |------->| daemon, bench/floor or  |
//	       | scenario: what to play       |<--SSE--| bench/goroutines        |
//	       | report: table, JSON, HTML    |        +-------------------------+
//	       | compare: A B C A B C ...     |             ^
//	       +------------------------------+---/proc-----'
//
// relay has the targets relay completions from bench/mockllm, a third process; package relay has more.
//
// The scenarios are described in package scenario, the promises about the clients in package load. What a run needs:
//
//   - descriptors: one for each stream on both sides (ulimit -n; the hard limit is used), two while handing over.
//   - source addresses 127.0.1.1, 127.0.2.1 and so on, which Linux has by default.
//   - for bench/floor a C compiler called cc; without one the comparison goes on and says so in one line.
//
// Exit code 0: every stream was what it should be, and the target kept no descriptor. 1: not so, or the run failed.
package main
