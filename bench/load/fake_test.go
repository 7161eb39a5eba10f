package load_test

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"streaming-daemon-go/bench/load"
)

// script is what a fake daemon does with one client; it closes the client afterwards. prompt is that of the handoff.
type script func(client net.Conn, prompt string)

// fakeDaemon takes handoffs at a socket of the given type and runs play for each. It ends with the test.
func fakeDaemon(t *testing.T, socketType load.SocketType, play script) (path string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fake") // t.TempDir is too long for a socket's path under some test names
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	network := "unixpacket"
	if socketType == load.Stream {
		network = "unix"
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
		_ = os.RemoveAll(dir)
	})
	running.Go(func() {
		for {
			conn, err := l.AcceptUnix()
			if err != nil {
				return
			}
			running.Go(func() {
				client, prompt, err := takeHandoff(conn)
				if err != nil {
					t.Errorf("fake daemon: %v", err)
					return
				}
				play(client, prompt)
				_ = client.Close()
			})
		}
	})
	return path
}

// takeHandoff reads one small handoff.
func takeHandoff(conn *net.UnixConn) (net.Conn, string, error) {
	defer func() { _ = conn.Close() }()
	payload, control := make([]byte, 4096), make([]byte, 64)
	n, controlLen, _, _, err := conn.ReadMsgUnix(payload, control)
	if err != nil {
		return nil, "", err
	}
	messages, err := syscall.ParseSocketControlMessage(control[:controlLen])
	if err != nil {
		return nil, "", err
	}
	fds, err := syscall.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, "", err
	}
	file := os.NewFile(uintptr(fds[0]), "client")
	defer func() { _ = file.Close() }()
	client, err := net.FileConn(file)
	if err != nil {
		return nil, "", err
	}
	var p struct {
		Prompt string `json:"prompt"`
	}
	if err := json.Unmarshal(payload[:n], &p); err != nil {
		return nil, "", err
	}
	return client, p.Prompt, nil
}
