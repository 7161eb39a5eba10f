package h1

import (
	"streaming-daemon-go/sse/openai/upstream"
)

// call is one request and its response. It is an upstream.Call. It outlives a connection that turns out to be dead, so
// it is not part of one.
type call struct {
	sh     *shard            // immutable
	to     upstream.Receiver // nil exactly when the call is over: nothing is heard of it any more
	req    *upstream.Request // nil once the response's head has come
	conn   *conn             // nil while the name is looked up, and once over
	paused bool
}

// over ends the call's account and gives who is to be told. nil: it was over before.
func (c *call) over() upstream.Receiver {
	to := c.to
	if to != nil {
		c.to, c.req, c.conn = nil, nil, nil
		c.sh.counts.calls.Add(-1)
	}
	return to
}

// fail ends the call with an error.
func (c *call) fail(err error) {
	if to := c.over(); to != nil {
		to.Fail(err)
	}
}

// failLater is fail from inside Start, which must not call back. It reports whether there is an error.
func (c *call) failLater(err error) bool {
	if err != nil {
		_ = c.sh.loop.Post(func() { c.fail(err) }) // ErrClosed: nobody is left to be told
	}
	return err != nil
}

func (c *call) Pause() {
	if c.to == nil || c.paused {
		return
	}
	c.paused = true
	if c.conn != nil {
		c.conn.pause()
	}
}

func (c *call) Resume() {
	if c.to == nil || !c.paused {
		return
	}
	c.paused = false
	if c.conn != nil {
		c.conn.resume()
	}
}

func (c *call) Release() {
	cn := c.conn
	if c.over() != nil && cn != nil {
		cn.release()
	}
}

func (c *call) Cancel() {
	cn := c.conn
	if c.over() != nil && cn != nil {
		cn.close()
	}
}
