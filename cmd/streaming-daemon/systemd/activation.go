package systemd

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"streaming-daemon-go/loop"
)

// Names are what FileDescriptorName= in a socket unit can be: the kinds of handoff sockets, and the metrics listener.
var Names = []string{"stream", "seqpacket", "fdpass", "metrics"}

// Socket is a listening socket that the service manager has opened and holds too. Its path or port is not ours.
type Socket struct {
	Name string // one of Names
	FD   loop.FD
}

// Sockets takes the sockets that were passed on; nil: none were. The caller owns the descriptors. The variables that
// speak of them are taken out of the environment. Once, early: the numbers are fixed. A name that is not one of Names
// is an error that says what to write in the unit; nothing is left open then.
func Sockets() ([]Socket, error) {
	var sockets []Socket
	var err error
	for _, f := range activation.Files(true) {
		if err == nil {
			err = take(f, &sockets)
		}
		_ = f.Close() // ours is a duplicate: f's would be closed by the garbage collector
	}
	if err != nil {
		for i := range sockets {
			_ = sockets[i].FD.Close()
		}
		return nil, err
	}
	return sockets, nil
}

func take(f *os.File, sockets *[]Socket) error {
	if !slices.Contains(Names, f.Name()) {
		return fmt.Errorf("systemd: a socket named %q was passed on: FileDescriptorName= in its unit must be one of %s",
			f.Name(), strings.Join(Names, ", "))
	}
	n, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("systemd: the socket named %q: %w", f.Name(), err)
	}
	*sockets = append(*sockets, Socket{Name: f.Name(), FD: loop.OwnFD(n)})
	return nil
}
