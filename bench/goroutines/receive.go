package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	handoffTimeout = 5 * time.Second
	payloadMax     = 256 << 10 // bytes; above what the kernel lets through in one message: 212,960
)

// payload is what travels beside the descriptor.
type payload struct {
	Prompt string                     `json:"prompt"`
	Extra  map[string]json.RawMessage `json:"extra"` // merged into the upstream's request
}

// buffers holds receive buffers: one per handoff under way, not one per client.
var buffers = sync.Pool{New: func() any { return new([payloadMax]byte) }}

var errNoFD = errors.New("no descriptor, or more than one, in a handoff")

// receive reads one handoff and closes conn. The caller owns the client.
func receive(conn *net.UnixConn) (client net.Conn, p payload, err error) {
	defer func() { _ = conn.Close() }()
	if err := conn.SetReadDeadline(time.Now().Add(handoffTimeout)); err != nil {
		return nil, p, err
	}
	buf := buffers.Get().(*[payloadMax]byte)
	defer buffers.Put(buf)
	var control [64]byte // room for eight descriptors: more than one is an error, but every one must be closed
	n, controlLen, _, _, err := conn.ReadMsgUnix(buf[:], control[:])
	if errors.Is(err, io.EOF) {
		// The first end of a seqpacket socket may be none: a message that is sent between the kernel's look at the
		// queue and its look whether the sender has closed comes after it.
		n, controlLen, _, _, err = conn.ReadMsgUnix(buf[:], control[:])
	}
	if err != nil {
		return nil, p, err
	}
	fd, err := onlyFD(control[:controlLen])
	if err != nil {
		return nil, p, err
	}
	file := os.NewFile(uintptr(fd), "client")
	client, err = net.FileConn(file) // a duplicate, registered with the runtime's poller
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, p, fmt.Errorf("client socket: %w", err)
	}
	if conn.LocalAddr().Network() == "unix" { // SOCK_STREAM: the payload goes on until the end
		rest, err := io.ReadFull(conn, buf[n:])
		if err == nil {
			err = errors.New("payload too large")
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			_ = client.Close()
			return nil, p, err
		}
		n += rest
	}
	if n > 1 || n == 1 && buf[0] != 0 {
		if err := json.Unmarshal(buf[:n], &p); err != nil {
			_ = client.Close()
			return nil, p, fmt.Errorf("payload: %w", err)
		}
	}
	return client, p, nil
}

// onlyFD gives the one descriptor of a control message; of several it closes all.
func onlyFD(control []byte) (int, error) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return -1, err
	}
	var all []int
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err == nil {
			all = append(all, fds...)
		}
	}
	if len(all) != 1 {
		for _, fd := range all {
			_ = syscall.Close(fd)
		}
		return -1, errNoFD
	}
	return all[0], nil
}
