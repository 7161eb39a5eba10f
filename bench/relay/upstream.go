package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"streaming-daemon-go/bench/mockllm/mock"
	"streaming-daemon-go/bench/target"
)

// stopPatience is how long mockllm may take to end.
const stopPatience = 10 * time.Second

// upstream is a running mockllm.
type upstream struct {
	base   string
	cmd    *exec.Cmd
	client *http.Client
	watch  *target.Process
}

// startUpstream runs mockllm so that a stream has as many events as o says.
func startUpstream(spec target.Spec, t Transport, events int, delay time.Duration) (*upstream, error) {
	listen := "-http"
	if t == H2 {
		listen = "-https"
	}
	u := &upstream{
		cmd: exec.Command(spec.Path, listen, "127.0.0.1:0", "-events", strconv.Itoa(events), "-delay", delay.String()),
		client: &http.Client{Timeout: stopPatience, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // it is on loopback, and we have started it
		}},
	}
	u.cmd.Stderr = os.Stderr
	out, err := u.cmd.StdoutPipe()
	if err == nil {
		err = u.cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("relay: start mockllm: %w", err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		u.base = strings.TrimSpace(line)
		u.watch, err = target.Attach(u.cmd.Process.Pid, "", "")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("relay: mockllm does not say where it listens: %w", err), u.stop())
	}
	return u, nil
}

// stats asks what it has counted.
func (u *upstream) stats(ctx context.Context) (s mock.Stats, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(u.base, "/v1")+"/stats", nil)
	if err != nil {
		return s, err
	}
	resp, err := u.client.Do(req)
	if err != nil {
		return s, fmt.Errorf("relay: mockllm: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	return s, json.NewDecoder(resp.Body).Decode(&s)
}

// stop ends it: SIGTERM, and SIGKILL when that does not help.
func (u *upstream) stop() error {
	u.client.CloseIdleConnections()
	_ = u.cmd.Process.Signal(syscall.SIGTERM) // it has ended already, or Wait says so
	kill := time.AfterFunc(stopPatience, func() { _ = u.cmd.Process.Kill() })
	defer kill.Stop()
	if err := u.cmd.Wait(); err != nil {
		return fmt.Errorf("relay: mockllm: %w", err)
	}
	return nil
}
