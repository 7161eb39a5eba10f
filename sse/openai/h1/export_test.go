package h1

import (
	"time"

	"streaming-daemon-go/sse/openai/upstream"
)

// What the tests outside the package need of its inside.

const (
	HeadBytesMax = headBytesMax
	TailBytes    = tailBytes
	ReadBytes    = readBytes
	NameFresh    = nameFresh
	NameFailed   = nameFailed
	NameStale    = nameStale
)

// Take feeds the pieces of a response to a connection that has just sent its request, without a loop, and then, if eof,
// the end of the connection. reusable reports whether it would have been kept for another call.
func Take(to upstream.Receiver, pieces [][]byte, eof bool) (reusable bool) {
	sh := &shard{t: &Transport{}, closed: true}
	c := &conn{sh: sh, state: stateAwaiting}
	c.bind(&call{sh: sh, to: to})
	sh.counts.open.Store(1)
	for _, p := range pieces {
		if c.state == stateClosed {
			break
		}
		c.take(p)
	}
	if eof && c.state != stateClosed {
		c.eof()
	}
	return c.keepAlive && c.body.done()
}

// Decode takes chunked coding off the pieces. rest is what follows the body; done reports whether it is complete.
func Decode(pieces [][]byte) (data, rest []byte, done bool, err error) {
	b := body{at: atSizeStart}
	for _, p := range pieces {
		for len(p) > 0 && !b.done() {
			var piece []byte
			if piece, p, err = b.next(p); err != nil {
				return data, nil, false, err
			}
			data = append(data, piece...)
		}
		if b.done() {
			rest = append(rest, p...)
		}
	}
	return data, rest, b.done(), nil
}

// Age makes what is known of the target's name older.
func Age(t *Transport, by time.Duration) {
	n := t.names
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked, n.until = n.asked.Add(-by), n.until.Add(-by)
}
