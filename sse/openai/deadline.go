package openai

import "time"

// The deadlines of a relay share the stream's one timer, and are lazy: an event only stamps heardAt, and the timer,
// when it fires, looks what is due. So an event costs no timer operation.

// schedule asks to be woken at the next deadline.
func (r *relay) schedule() {
	if r.phase == phaseOver {
		return
	}
	o := &r.sh.b.opt
	next := r.silenceEnds()
	if o.TotalTimeout > 0 {
		next = min(next, r.began+o.TotalTimeout)
	}
	if !r.headSent {
		next = min(next, r.began+o.HeadTimeout)
	}
	if next == never {
		next = 0
	}
	r.out.WakeAt(next)
}

// refusedTimeout is how long the body of an error may keep its client waiting: it only has its code.
const refusedTimeout = 2 * time.Second

const never = time.Duration(1<<63 - 1)

// silenceEnds is when the upstream must have sent a byte. While we do not read, it need not.
func (r *relay) silenceEnds() time.Duration {
	switch {
	case r.phase == phaseRefused:
		return r.heardAt + refusedTimeout
	case r.paused:
		return never
	case r.firstAt == 0:
		return r.began + r.sh.b.opt.FirstByteTimeout
	}
	return r.heardAt + r.sh.b.opt.IdleTimeout
}

// Wake implements stream.Backend.
func (r *relay) Wake(time.Duration) {
	if r.phase == phaseOver {
		return
	}
	o, now := &r.sh.b.opt, r.out.Now()
	switch {
	case o.TotalTimeout > 0 && now >= r.began+o.TotalTimeout:
		r.fail(TotalTimeout, nil)
		return
	case now >= r.silenceEnds():
		r.silent()
		return
	case !r.headSent && now >= r.began+o.HeadTimeout:
		r.sendHead()
	}
	r.schedule()
}

// silent ends a stream whose upstream says nothing.
func (r *relay) silent() {
	switch {
	case r.phase == phaseRefused: // its status is known
		r.refuse()
	case r.firstAt == 0:
		r.fail(FirstByteTimeout, nil)
	default:
		r.fail(IdleTimeout, nil)
	}
}
