// Package browsertest has tests of the whole way to a real browser, and no code.
//
//	headless Chromium ── page ──> front, or Apache ── handoff ──> daemon ── events ──> EventSource and fetch() of the page
//	headless Chromium ── EventSource ──> byte streams of the test ──> what it reports: sse/testdata/eventsource.json
//
// The second makes the browser the judge of package sse: its parser must see in those streams what EventSource saw.
package browsertest
