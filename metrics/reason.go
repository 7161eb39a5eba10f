package metrics

// Reason is the closed set of values of the `reason` label. It is closed so
// that dashboards and alerts can name each one, and so that all of them are
// exposed at 0 from the start.
type Reason uint8

// The reasons, in the order of the arrays in Snapshot.
const (
	ReasonTimeout            Reason = iota // a deadline of ours passed: handoff, write, stream duration
	ReasonCanceled                         // we ended it: drain, eviction, shutdown
	ReasonNetwork                          // a socket call failed, other than by a hangup
	ReasonClientDisconnected               // hangup: the client left before the end of its stream
	ReasonOther                            // everything else, a malformed payload included

	// NumReasons is how many there are; it is not a reason.
	NumReasons
)

// reasonLabels is what dashboards match on: a changed word breaks them.
var reasonLabels = [NumReasons]string{
	ReasonTimeout:            "timeout",
	ReasonCanceled:           "canceled",
	ReasonNetwork:            "network",
	ReasonClientDisconnected: "client_disconnected",
	ReasonOther:              "other",
}

// String returns the label value. A value outside the set reads as "other", so
// that a caller's arithmetic cannot add a label value.
func (r Reason) String() string {
	if r >= NumReasons {
		r = ReasonOther
	}
	return reasonLabels[r]
}
