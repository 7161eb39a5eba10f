package load

// Fault is what was wrong with a stream. The first one of a stream counts; the client is closed at once.
type Fault uint8

// The faults, in the order in which a stream can meet them.
const (
	FaultNone       Fault = iota
	FaultConnect          // the harness could not open the client socket: its own fault, or the machine's
	FaultHandoff          // the handoff socket refused the connection or the message
	FaultBacklog          // the backlog of the handoff socket stayed full for backlogPatience
	FaultLost             // the client socket was closed before a byte came
	FaultHead             // what came is no response head, or ended within it
	FaultStatus           // the status is not 200
	FaultCorrupt          // an event is not one that was asked for
	FaultOrder            // the right events in the wrong order, or events after [DONE]
	FaultExtra            // more events than asked for
	FaultErrorEvent       // an "event: error"
	FaultTorn             // the stream ended within an event
	FaultShort            // the stream ended at an event's border, but before [DONE] or with events missing
	FaultReset            // the connection was reset before the end
	FaultTimeout          // nothing ended the stream in time
	FaultBug              // a callback of the harness panicked
	faults
)

var faultNames = [faults]string{"none", "connect", "handoff", "backlog_full", "lost", "head", "status", "corrupt",
	"order", "extra", "error_event", "torn", "short", "reset", "timeout", "harness_bug"}

func (f Fault) String() string { return faultNames[f] }

// Faults lists every fault but FaultNone.
func Faults() []Fault {
	all := make([]Fault, 0, faults-1)
	for f := FaultNone + 1; f < faults; f++ {
		all = append(all, f)
	}
	return all
}
