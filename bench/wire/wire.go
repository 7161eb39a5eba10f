package wire

// EventData is the data of the event that the demo backend sends again and again in a load test: about 50 bytes with
// its field name and line ends, a short sentence of a language model.
const EventData = `{"content":"` + EventText + `"}`

// EventText is the text in it: what an upstream says so that a relay of it sends that event.
const EventText = "The quick brown fox jumps over the lazy"

// Event is that event on the wire.
const Event = "data: " + EventData + "\n\n"

// DoneData is the data of a stream's last event.
const DoneData = "[DONE]"

// Done is that event on the wire.
const Done = "data: " + DoneData + "\n\n"

// Head is the response head of a stream without headers of its own: what sse.AppendHead(nil, nil) makes.
const Head = "HTTP/1.1 200 OK\r\n" +
	"Content-Type: text/event-stream\r\n" +
	"Cache-Control: no-cache\r\n" +
	"Connection: close\r\n" +
	"X-Accel-Buffering: no\r\n" +
	"\r\n"
