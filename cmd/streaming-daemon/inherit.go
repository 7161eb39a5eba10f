package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/config"
	"streaming-daemon-go/cmd/streaming-daemon/systemd"
	"streaming-daemon-go/cmd/streaming-daemon/upgrade"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
)

// Names of the HTTP listeners where sockets are passed on. A handoff socket has its kind for a name.
const (
	nameMetrics = "metrics"
	namePprof   = "pprof"
	nameFront   = "front"
)

// inheritance is the sockets that were open before this process: a predecessor's, or systemd's. One that the
// configuration asks for is taken in place of opening it.
type inheritance struct {
	predecessor *upgrade.Predecessor // nil: this process is nobody's successor
	activated   []systemd.Socket     // that nobody has taken yet
}

// inherit comes before anything is opened.
func inherit() (*inheritance, error) {
	predecessor, err := upgrade.Inherit()
	if err != nil {
		return nil, err
	}
	activated, err := systemd.Sockets() // none where there is a predecessor: it keeps the variables to itself
	if err != nil {
		return nil, err
	}
	return &inheritance{predecessor: predecessor, activated: activated}, nil
}

// handoffListener is a handoff socket that is open.
type handoffListener struct {
	*fdrecv.Listener
	path  string          // as configured; of one that is not, where it is bound
	from  config.Listener // what is configured for it; the zero Listener: nothing is
	claim fdrecv.Claim    // of the predecessor; ours once it lets go
}

// handoff gives the socket for a kind and a path; ok false: there is none, it is to be opened. One that systemd has
// opened takes the place of the configured one with its path or else of the first of its kind.
func (in *inheritance) handoff(kind fdrecv.Kind, path string) (ln handoffListener, ok bool, err error) {
	if in.predecessor != nil {
		s, ok := in.predecessor.Take(kind.String(), path)
		if !ok {
			return handoffListener{}, false, nil
		}
		ln, err = adopt(s)
		return ln, true, err
	}
	fd, ok := in.takeActivated(kind.String(), path)
	if !ok {
		return handoffListener{}, false, nil
	}
	ln, err = adoptFD(fd, kind, path)
	return ln, true, err
}

// takeActivated prefers the socket that is bound to address. The caller owns it.
func (in *inheritance) takeActivated(name, address string) (loop.FD, bool) {
	best := -1
	for i := range in.activated {
		if s := &in.activated[i]; s.Name == name && (best < 0 || boundTo(s.FD.Int()) == address) {
			best = i
		}
	}
	if best < 0 {
		return loop.FD{}, false
	}
	fd := in.activated[best].FD
	in.activated = append(in.activated[:best], in.activated[best+1:]...)
	return fd, true
}

// adopt makes a Listener of a predecessor's socket.
func adopt(s upgrade.Socket) (handoffListener, error) {
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
		if kind.String() != s.Name {
			continue
		}
		var claim fdrecv.Claim
		if err := json.Unmarshal(s.Extra, &claim); err != nil {
			_ = s.FD.Close()
			return handoffListener{}, fmt.Errorf("the predecessor's %s socket: %w", s.Name, err)
		}
		ln, err := adoptFD(s.FD, kind, s.Address)
		ln.claim = claim
		return ln, err
	}
	_ = s.FD.Close()
	return handoffListener{}, fmt.Errorf("the predecessor has a socket named %q, which this version does not know", s.Name)
}

// adoptFD takes fd.
func adoptFD(fd loop.FD, kind fdrecv.Kind, path string) (handoffListener, error) {
	ln, err := fdrecv.ListenerFromFD(fd, kind)
	if err != nil {
		_ = fd.Close()
		return handoffListener{}, fmt.Errorf("the %s socket that was passed on: %w", kind, err)
	}
	return handoffListener{Listener: ln, path: path}, nil
}

// http gives the HTTP listener with a name and an address; nil: there is none, it is to be opened. A predecessor's
// accepts once that has stopped.
func (in *inheritance) http(name, address string) (net.Listener, error) {
	if in.predecessor == nil {
		fd, ok := in.takeActivated(name, address)
		if !ok {
			return nil, nil
		}
		return tcpListener(fd, name)
	}
	s, ok := in.predecessor.Take(name, address)
	if !ok {
		return nil, nil
	}
	ln, err := tcpListener(s.FD, name)
	if err != nil {
		return nil, err
	}
	return upgrade.Gate(ln, in.predecessor.Released()), nil
}

// tcpListener takes fd.
func tcpListener(fd loop.FD, name string) (net.Listener, error) {
	f := os.NewFile(uintptr(fd.Release()), name)
	defer f.Close() // FileListener has a duplicate
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the %s socket that was passed on: %w", name, err)
	}
	if _, ok := ln.(*net.TCPListener); !ok {
		_ = ln.Close()
		return nil, fmt.Errorf("the %s socket that was passed on is no TCP socket", name)
	}
	return ln, nil
}

// rest gives the handoff sockets that nothing in the configuration asks for. Those of systemd are served all the same:
// its unit is configuration too. Those of a predecessor, gone, are of paths that were configured then and are not now:
// their backlog is still to be served. What else is left is closed.
func (in *inheritance) rest() (extra, gone []handoffListener, err error) {
	var errs []error
	keep := func(ln handoffListener, err error) {
		switch {
		case err != nil:
			errs = append(errs, err)
		case ln.claim == (fdrecv.Claim{}):
			extra = append(extra, ln)
		default:
			gone = append(gone, ln)
		}
	}
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
		for {
			fd, ok := in.takeActivated(kind.String(), "")
			if !ok {
				break
			}
			keep(adoptFD(fd, kind, boundTo(fd.Int())))
		}
	}
	for i := range in.activated {
		errs = append(errs, fmt.Errorf("socket activation: a %s socket was passed on that nothing uses: is the listener off, or "+
			"are there two units for it?", in.activated[i].Name))
		_ = in.activated[i].FD.Close()
	}
	in.activated = nil
	if in.predecessor != nil {
		for _, s := range in.predecessor.Rest() {
			switch s.Name {
			case nameMetrics, namePprof, nameFront: // off by now, or on another address
				_ = s.FD.Close()
			default:
				keep(adopt(s))
			}
		}
	}
	return extra, gone, errors.Join(errs...)
}

// close gives up what nobody took and tells the predecessor why. The sockets go on being its own.
func (in *inheritance) close(reason error) {
	if in == nil {
		return
	}
	for i := range in.activated {
		_ = in.activated[i].FD.Close()
	}
	in.activated = nil
	if in.predecessor != nil && !errors.Is(reason, upgrade.ErrAborted) {
		in.predecessor.Fail(reason)
	}
}

// boundTo is the path of a Unix socket; "" of any other.
func boundTo(fd int) string {
	name, err := unix.Getsockname(fd)
	if err != nil {
		return ""
	}
	if u, ok := name.(*unix.SockaddrUnix); ok {
		return u.Name
	}
	return ""
}
