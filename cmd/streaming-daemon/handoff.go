package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/fdrecv"
)

// runHandoff plays Apache from a terminal: it hands one end of a socket pair over and prints what comes back, head
// included. The tool for trouble-shooting a daemon that runs.
func runHandoff(args []string, stdout, stderr *os.File) int {
	set := subcommandFlags("handoff", "Hands a client over to a running daemon, as Apache would, and prints what the client gets.", stderr)
	path := set.String("socket", "/var/run/streaming-daemon.sock", "`path` of the daemon's socket")
	kindName := set.String("kind", "", "protocol: stream, seqpacket or fdpass (default: stream or seqpacket, whichever the socket is)")
	data := set.String("data", "", "`JSON` payload, as in X-Handoff-Data; empty: none")
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitBadArgs
	case set.NArg() > 0:
		fmt.Fprintf(stderr, "streaming-daemon handoff: unexpected argument %q\n", set.Arg(0))
		return exitBadArgs
	}
	if *data != "" && !json.Valid([]byte(*data)) {
		fmt.Fprintln(stderr, "streaming-daemon handoff: -data is not valid JSON; it is sent as it is")
	}
	if err := handOver(*path, *kindName, []byte(*data), stdout); err != nil {
		fmt.Fprintln(stderr, "streaming-daemon handoff:", err)
		return exitFailed
	}
	return exitOK
}

// handOver sends one end of a socket pair to path and copies what arrives at the other end to out.
func handOver(path, kindName string, payload []byte, out io.Writer) error {
	kinds, err := kindsToTry(kindName)
	if err != nil {
		return err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socketpair: %w", err)
	}
	client := os.NewFile(uintptr(pair[0]), "client")
	defer client.Close()
	for _, kind := range kinds {
		// EPROTOTYPE: the path is a socket of the other type.
		if err = fdrecv.Send(path, kind, pair[1], payload, sendTimeout); !errors.Is(err, unix.EPROTOTYPE) {
			break
		}
	}
	_ = unix.Close(pair[1]) // ours; the daemon has its own by now
	if err != nil {
		return fmt.Errorf("%w%s", err, hint(err))
	}
	_, err = io.Copy(out, client)
	return err
}

func kindsToTry(name string) ([]fdrecv.Kind, error) {
	if name == "" {
		return []fdrecv.Kind{fdrecv.KindSeqpacket, fdrecv.KindStream}, nil
	}
	for _, kind := range []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass} {
		if kind.String() == name {
			return []fdrecv.Kind{kind}, nil
		}
	}
	return nil, fmt.Errorf("-kind is %q: it must be stream, seqpacket or fdpass", name)
}

// hint says what usually helps.
func hint(err error) string {
	switch {
	case errors.Is(err, unix.ENOENT):
		return " (is the daemon running, with this path?)"
	case errors.Is(err, unix.ECONNREFUSED):
		return " (nobody listens: the daemon that made this socket is gone)"
	case errors.Is(err, unix.EACCES):
		return " (this user may not write to the socket: see -socket-mode, and the permissions of the directories above it)"
	case errors.Is(err, unix.EPROTOTYPE):
		return " (the socket is of the other type: seqpacket and stream need a path each)"
	case errors.Is(err, unix.EAGAIN):
		return " (the backlog is full: the daemon does not keep up)"
	case errors.Is(err, unix.EMSGSIZE):
		return " (the payload is larger than one message may be)"
	}
	return ""
}
