// Package mock is a server of chat completion streams in OpenAI's format that
// does what it is told: fast or slow, in any text, and wrong in every way that
// tests of a client of such servers have use for.
//
//	POST …/chat/completions ──> key, format ──> Script ──> blocks ──> player ──> the wire
//	                                              ^          │           │
//	Config.Script, X-Mock header, "mock" member ──┘          pauses      cuts, stalls, framing
//	GET  /stats             ──> Stats
//
// A [Script] is one reply. The server has one for all requests; a request can
// change fields of it, with JSON in the header field X-Mock or in the member
// "mock" of its body (which a daemon passes on from its payload's `extra`).
//
// What a reply is made of is a pure function of script and request: what
// [Script.Quoted] gives is what goes out, so a test compares to the byte.
//
// It is made of net/http: a goroutine per stream, which is fair enough for what
// is not measured. Ten thousand streams at an event a second are no trouble,
// since pauses end on a grid that all streams share.
package mock
