package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"streaming-daemon-go/bench/target"
	"streaming-daemon-go/fdrecv"
)

const (
	cancelTries   = 50
	cancelPatient = 10 * time.Second // for an event, for a cancellation
)

// cancels measures how long after a client has closed the upstream hears of it, one client after the other. Each has
// read an event of a reply that then says nothing: nothing but the hangup can be the cause.
func cancels(ctx context.Context, p *target.Process, u *upstream) ([]time.Duration, error) {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	defer func() { _ = l.Close() }()
	before, err := u.stats(ctx)
	if err != nil {
		return nil, err
	}
	left := map[string]time.Time{}
	for i := range cancelTries {
		tag := strconv.Itoa(i)
		if left[tag], err = comeAndGo(p, l, tag); err != nil {
			return nil, err
		}
	}
	deadline := time.Now().Add(cancelPatient)
	for {
		s, err := u.stats(ctx)
		if err != nil {
			return nil, err
		}
		if s.Cancelled >= before.Cancelled+cancelTries {
			var took []time.Duration
			for _, c := range s.Cancels[len(s.Cancels)-cancelTries:] {
				took = append(took, c.At.Sub(left[c.Tag]))
			}
			slices.Sort(took)
			return took, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("relay: of %d completions whose client left, %d were cancelled within %v",
				cancelTries, s.Cancelled-before.Cancelled, cancelPatient)
		}
		time.Sleep(10 * time.Millisecond) // another process: there is nothing to wait on
	}
}

// comeAndGo hands over a client that reads an event and closes, and says when.
func comeAndGo(p *target.Process, l *net.TCPListener, tag string) (left time.Time, err error) {
	client, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return left, fmt.Errorf("relay: %w", err)
	}
	defer func() { _ = client.Close() }() // the second time is an error, and nobody's concern
	server, err := l.AcceptTCP()
	if err != nil {
		return left, fmt.Errorf("relay: %w", err)
	}
	file, err := server.File()
	_ = server.Close() // the file is a duplicate
	if err != nil {
		return left, fmt.Errorf("relay: %w", err)
	}
	payload := `{"prompt":"x","extra":{"mock":{"delay":"1h","tag":"` + tag + `"}}}`
	err = fdrecv.Send(p.Seqpacket, fdrecv.KindSeqpacket, int(file.Fd()), []byte(payload), cancelPatient)
	if err = errors.Join(err, file.Close()); err != nil {
		return left, fmt.Errorf("relay: %w", err)
	}
	if err := awaitEvent(client); err != nil {
		return left, err
	}
	left = time.Now()
	return left, client.Close()
}

// awaitEvent reads until an event with a text has come.
func awaitEvent(client net.Conn) error {
	if err := client.SetReadDeadline(time.Now().Add(cancelPatient)); err != nil {
		return err
	}
	var got []byte
	buffer := make([]byte, 4096)
	for {
		n, err := client.Read(buffer)
		got = append(got, buffer[:n]...)
		if hasText(got) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("relay: no event of text came, but %q: %w", got, err)
		}
	}
}
