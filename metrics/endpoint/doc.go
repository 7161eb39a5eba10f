// Package endpoint serves HTTP beside the streams: to a bounded number of connections, with an end that leaves nothing.
//
//	net.Listener ──accept, with a slot in hand──> net/http ──> Config.Handler
//	     ^                                            │
//	     └── no slot is free: wait in the backlog     └── connection closed: its slot is given back
//
// Who holds all slots knows that no connection is left: Shutdown ends that way. The listener may come from another
// process and go on in a next one.
//
// It refuses to know what is served: routes, bodies and who may ask are the handler's.
package endpoint
