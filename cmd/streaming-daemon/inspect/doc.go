// Package inspect shows the open streams to whoever may see the metrics: /streams.
//
//	GET /streams?order=idle ──> Handler ── List ──> each loop, a few hundred streams at a time
//	     totals, first streams <──┘
//
// One request at a time walks the streams; the others wait for it, and give up after a second. What streams carry is
// not shown, only who gets them and how that goes. Ids are shown where the daemon keeps them for its access log.
//
// What it refuses to do: end a stream, or change one.
package inspect
