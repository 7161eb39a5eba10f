// Package openai is the backend that relays chat completion streams of an
// OpenAI-compatible API (/chat/completions with stream: true) to clients.
//
//	payload ──request──> upstream.Transport ──HTTP──> API
//	                          │ body, in pieces cut anywhere
//	                          v
//	        sse.Parser ──event──> delta ──content, …──> stream.Stream ──> client
//
// One stream costs one [upstream.Call] and a relay of some 200 bytes: neither a
// goroutine nor a buffer. What the client cannot take pauses the call, and with
// it the upstream; a client that is gone cancels it at once.
//
// # What the client reads
//
// In simple mode, the default, an event for each piece of text:
//
//	data: {"content":"Hel"}
//	data: {"content":"lo"}
//	event: finish_reason
//	data: {"finish_reason":"stop"}
//	data: [DONE]
//
// The string is the upstream's, escape for escape. What else a completion may
// say comes as named events, which a client that listens for messages only does
// not see:
//
//	event: refusal      data: {"refusal":"…"}      a piece, like content
//	event: tool_calls   data: {"tool_calls":[…]}   the API's own delta objects
//	event: finish_reason
//
// Only the choice with index 0 is relayed. In raw mode every event of the
// upstream goes out as it is, for clients that speak the API's format.
//
// [DONE] means that the upstream has finished: with its own [DONE], or with a
// finish_reason and an orderly end of the response. Everything else ends with
// `event: error` and no [DONE].
//
// # Before the first event
//
// The response head waits for the upstream's, so that a failure has a status:
// 429 and 503 as the upstream gave them, with its Retry-After; 504 when it did
// not answer in time; 503 past the limit of upstream streams; 502 for the rest.
// After the head timeout it goes out on its own, so that the client sees
// heartbeats while a slow model thinks. No answer holds a word of the
// upstream's error text: that may quote keys.
package openai
