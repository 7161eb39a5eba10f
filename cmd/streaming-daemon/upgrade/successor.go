package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// helloTimeout is for a predecessor that has just started this process to send what it has ready.
const helloTimeout = 10 * time.Second

// ErrAborted: the predecessor goes on, and this process is to end without a trace.
var ErrAborted = errors.New("upgrade: the predecessor goes on")

// Predecessor is the process whose place this one takes, as its successor sees it. Methods may be called from any
// goroutine unless they say otherwise.
type Predecessor struct {
	ch       *channel
	sockets  []Socket      // that nobody has taken; until Ready, of the goroutine that called Inherit
	released chan struct{} // closed when the predecessor listens no more, or is gone
	gone     chan struct{} // closed when its process has ended
}

// Inherit receives what the predecessor that started this process hands over. nil, nil: there is none, this is a start
// like any other. It marks every descriptor but the standard streams close-on-exec, whoever passed it, so that the
// successor of this process gets what is meant for it and nothing else. Once, before anything is started.
func Inherit() (*Predecessor, error) {
	if err := unix.CloseRange(channelFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("upgrade: close_range (Linux 5.11 is needed): %w", err)
	}
	number := os.Getenv(channelEnv)
	if number == "" {
		return nil, nil
	}
	for _, name := range notInherited {
		if err := os.Unsetenv(name); err != nil {
			return nil, fmt.Errorf("upgrade: %s: %w", name, err)
		}
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < channelFD {
		return nil, fmt.Errorf("upgrade: %s is %q: it is set by a predecessor alone, unset it", channelEnv, number)
	}
	ch, err := openChannel(os.NewFile(uintptr(n), "predecessor"))
	if err != nil {
		return nil, fmt.Errorf("%w: %s is set by a predecessor alone, unset it", err, channelEnv)
	}
	p := &Predecessor{ch: ch, released: make(chan struct{}), gone: make(chan struct{})}
	if err := p.receive(); err != nil {
		p.Fail(err)
		return nil, err
	}
	return p, nil
}

// receive takes hello and the sockets.
func (p *Predecessor) receive() error {
	deadline := time.Now().Add(helloTimeout)
	hello, err := p.next(deadline)
	if err != nil {
		return err
	}
	if hello.Kind != kindHello || hello.Version != version {
		return fmt.Errorf("upgrade: the predecessor says %q of version %d, this is version %d: stop it and start anew",
			hello.Kind, hello.Version, version)
	}
	for len(p.sockets) < hello.Sockets {
		m, err := p.next(deadline)
		if err != nil {
			return err
		}
		if m.Kind == kindSocket {
			p.sockets = append(p.sockets, *m.Socket)
		}
	}
	return nil
}

// next is a message before accept: with the end of the predecessor ends all.
func (p *Predecessor) next(deadline time.Time) (message, error) {
	m, err := p.ch.receive(deadline)
	switch {
	case errors.Is(err, io.EOF):
		return message{}, errors.New("upgrade: the predecessor ended before it had sent its sockets")
	case err == nil && m.Kind == kindAbort:
		return message{}, ErrAborted
	}
	return m, err
}

// Take gives the socket with a name and an address; the caller owns its descriptor. Before Ready.
func (p *Predecessor) Take(name, address string) (Socket, bool) {
	for i, s := range p.sockets {
		if s.Name == name && s.Address == address {
			p.sockets = append(p.sockets[:i], p.sockets[i+1:]...)
			return s, true
		}
	}
	return Socket{}, false
}

// Rest gives all that was not taken; the caller owns the descriptors. Before Ready.
func (p *Predecessor) Rest() []Socket {
	rest := p.sockets
	p.sockets = nil
	return rest
}

// Ready says that this process could serve this instant, and waits until it may: nil. It blocks; ctx ends the wait.
// ErrAborted, or another error: end, and leave no trace. A predecessor that dies now leaves its sockets to us: nil.
func (p *Predecessor) Ready(ctx context.Context) error {
	if err := p.ch.send(message{Kind: kindReady}, time.Now().Add(sendTimeout)); err != nil && !errors.Is(err, unix.EPIPE) {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = p.ch.conn.CloseRead() })()
	for {
		m, err := p.ch.receive(time.Time{})
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("upgrade: waiting for the predecessor: %w", ctx.Err())
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case m.Kind == kindAbort:
			return ErrAborted
		case m.Kind == kindAccept:
			return nil
		}
	}
}

// Accepting says that this process accepts, once Ready has returned nil, and starts to follow the predecessor: counts
// is called with what it has counted, again and again, from a goroutine of this package, the first time before
// Released is closed. The last of them are its final ones if it ended in good order.
func (p *Predecessor) Accepting(counts func(json.RawMessage)) {
	_ = p.ch.send(message{Kind: kindAccepting}, time.Now().Add(sendTimeout)) // it is dead: follow finds that too
	go p.follow(counts)
}

func (p *Predecessor) follow(counts func(json.RawMessage)) {
	released := false
	release := func() {
		if !released {
			released = true
			close(p.released)
		}
	}
	defer close(p.gone)
	defer release()
	defer p.ch.close()
	for {
		m, err := p.ch.receive(time.Time{})
		if err != nil {
			return
		}
		if len(m.Counts) > 0 {
			counts(m.Counts)
		}
		if m.Kind == kindReleased {
			release()
		}
	}
}

// Fail tells the predecessor why this process cannot take its place: it goes on, and logs it. For use before Ready has
// returned nil; the descriptors of sockets that nobody has taken are closed.
func (p *Predecessor) Fail(reason error) {
	_ = p.ch.send(message{Kind: kindFailed, Reason: reason.Error()}, time.Now().Add(sendTimeout))
	for i := range p.sockets {
		_ = p.sockets[i].FD.Close()
	}
	p.sockets = nil
	p.ch.close()
}

// Stop tells the predecessor that this process is about to end, and that its last streams should, too.
func (p *Predecessor) Stop() {
	_ = p.ch.send(message{Kind: kindStop}, time.Now().Add(sendTimeout)) // an error: it has ended already
}

// Released is closed once this process alone holds the sockets.
func (p *Predecessor) Released() <-chan struct{} { return p.released }

// Gone is closed once the predecessor's process has ended.
func (p *Predecessor) Gone() <-chan struct{} { return p.gone }
