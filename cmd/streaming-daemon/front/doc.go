// Package front is an embedded stand-in for Apache: for trying the daemon on a machine without one.
//
//	browser ──GET /──────────────> Server ──> a page with an EventSource and a fetch() example
//	browser ──GET, POST /stream──> Server ──Config.Send: client socket + payload──> Unix socket ──> daemon
//	   ^                                                                                              │
//	   └──────────────────────────────────── head and events ─────────────────────────────────────────┘
//
// It reads the HTTP request, as Apache would, hands the client socket over, and is out of the way: what the browser
// then reads comes from the daemon, and took the same path as in production. A client whose handoff failed gets a 503
// from here.
//
// It is a demo without users, passwords or TLS. So it answers only pages of its own (see origin.go), everything that a
// client may send or hold is bounded (see serverLimits), and the page loads nothing from elsewhere.
package front
