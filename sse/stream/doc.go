// Package stream joins a backend, which makes events, to a conn, which writes them: admission, the response head,
// heartbeats, deadlines, errors that the client can understand, and the drain.
//
//	fdrecv --Handoff--> Server --least loaded loop--> Stream <--Send, End-- Backend
//	                      |                              |  '--Start, Wake, Pause, Resume, Drain, Stop--^
//	                      '--reject--> rejection         v
//	                                       |            conn --> client
//	                                       '--> conn --> client
//
// A Stream costs no goroutine, and one timer serves its heartbeat, its deadline and its backend. All that happens to
// it happens on its loop; a Server may be used from any goroutine where its comments say so.
//
// What a backend sends during one of its own callbacks leaves in one write when the callback returns: the head and
// the first event, the last event and [DONE].
package stream
