// Package upstream is the contract between the OpenAI-compatible backend and
// what carries its requests: one call is one HTTP request and its response.
//
//	backend ──Start(loop, Request, Receiver)──> Transport ──> upstream
//	   ^ Head, Body…, then End or Fail  <── on that loop ──'
//	   '──Pause, Resume, Release, Cancel──> Call
//
// A Transport talks to one [Target]. There is one per target in the process,
// used by every loop. What it must not cost: a goroutine, a stack or a buffer
// per call. A connection may have goroutines where the wire leaves no choice
// (TLS); a call may not.
//
// Ordering: a call makes its callbacks one at a time, all on the loop that it
// was started on. Head comes once, before any Body. End or Fail comes once and
// last. None comes from inside Start, Pause, Resume, Release or Cancel, and
// none at all after Release or Cancel.
//
// Backpressure: a paused call stops reading from its upstream, so that the
// upstream's own flow control slows this one call and nobody else's.
//
// What it refuses to do: interpret a body, follow redirects, keep cookies,
// decode a content coding, time a response (the backend does: it knows what an
// event is), or repeat a request of which anything may have been answered.
package upstream
