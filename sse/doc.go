// Package sse is the wire format of the daemon and nothing else: the bytes of
// a response head, of events, and of rejections, and a parser for the same
// events. Pure functions on bytes: no I/O, no goroutines, no clock, neither
// package net nor anything of ours (deps_test.go holds that).
//
//	   AppendHead ──┐
//	  AppendEvent ──┤
//	AppendContent ──┼──> dst ~~~ client socket ~~~> ParseHead, then Parser.Feed ──> Event
//	  AppendError ──┤
//	         Done ──┘
//
//	AppendRejection ──> dst ~~~ client socket ~~~> any HTTP client
//
// One stream is one head, then blocks: events and comments, each up to and
// including its blank line. Every Append function adds whole blocks, so blocks
// may be joined in any order and cut from a queue at block borders.
//
// What is promised:
//
//   - Append functions extend dst as append does, keep no reference to an
//     argument, and allocate nothing while dst has room. Any goroutine may call
//     them; only dst needs an owner.
//   - One [AppendEvent] is one event in every conforming client, whatever the
//     bytes of its data. Nothing a caller passes can end a line early, forge a
//     field or start a second event.
//   - What a [Parser] gives does not depend on how the bytes were cut into
//     pieces, [ErrEventTooLarge] included.
//
// What is refused: HTTP/1.1 chunked coding (the end of the connection ends the
// stream), UTF-8 repair of event data (bytes go through as they are; a browser
// decodes them), and HTTP parsing beyond what our own responses need.
//
// The rules are those of the HTML standard, section 9.2 "Server-sent events",
// https://html.spec.whatwg.org/multipage/server-sent-events.html, and for the
// head RFC 9110 and RFC 9112.
package sse
