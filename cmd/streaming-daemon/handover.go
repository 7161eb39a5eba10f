package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"streaming-daemon-go/cmd/streaming-daemon/upgrade"
	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/loop"
	"streaming-daemon-go/metrics"
)

const (
	upgradeTimeout = 10 * time.Second // for a successor to get ready
	releaseTimeout = 5 * time.Second  // for a predecessor to end its HTTP listeners: see httpShutdown
	countInterval  = time.Second      // how old the counts that a successor has of us are at most
)

// attempt is an upgrade under way.
type attempt struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the two below are valid
	took   *upgrade.Successor
	err    error
}

// beginUpgrade starts the binary on disk in another goroutine. This process serves meanwhile.
func (d *daemon) beginUpgrade() *attempt {
	ctx, cancel := context.WithCancel(context.Background())
	a := &attempt{cancel: cancel, done: make(chan struct{})}
	d.log.Info("upgrade: starting a successor", "binary", d.program.Path)
	go func() {
		defer close(a.done)
		defer cancel()
		sockets, err := d.duplicates()
		if err == nil {
			a.took, err = upgrade.Start(ctx, d.program, sockets, upgradeTimeout)
		}
		a.err = err
		for i := range sockets {
			_ = sockets[i].FD.Close()
		}
	}()
	return a
}

// giveUp ends an attempt, unless it has come about: then it gives the successor.
func (a *attempt) giveUp() *upgrade.Successor {
	if a == nil {
		return nil
	}
	a.cancel()
	<-a.done
	return a.took
}

// duplicates gives a second descriptor of every listening socket. The caller owns them, on an error too.
func (d *daemon) duplicates() (sockets []upgrade.Socket, err error) {
	for _, ln := range d.listeners {
		claim, err := json.Marshal(ln.Claim())
		if err != nil {
			return sockets, err
		}
		fd, err := ln.Duplicate()
		if err != nil {
			return sockets, err
		}
		sockets = append(sockets, upgrade.Socket{Name: ln.Kind().String(), Address: ln.path, Extra: claim, FD: fd})
	}
	for name, s := range d.httpSockets() {
		fd, err := duplicate(s.socket)
		if err != nil {
			return sockets, fmt.Errorf("duplicate of the %s listener: %w", name, err)
		}
		sockets = append(sockets, upgrade.Socket{Name: name, Address: s.address, FD: fd})
	}
	return sockets, nil
}

// httpSocket is an HTTP listener with its configured address.
type httpSocket struct {
	address string
	socket  syscall.Conn
}

// httpSockets are all that are open, by name.
func (d *daemon) httpSockets() map[string]httpSocket {
	all := map[string]httpSocket{}
	for name, s := range d.http {
		all[name] = httpSocket{s.configured, s.Server}
	}
	if d.front != nil {
		all[nameFront] = httpSocket{d.frontAddr, d.front}
	}
	return all
}

func duplicate(c syscall.Conn) (loop.FD, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return loop.FD{}, err
	}
	var n int
	var dupErr error
	if err := raw.Control(func(fd uintptr) { n, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return loop.FD{}, err
	}
	if dupErr != nil {
		return loop.FD{}, dupErr
	}
	return loop.OwnFD(n), nil
}

// takeOver waits for the word of a predecessor, from which on its sockets are ours. Nothing is accepted before.
func (d *daemon) takeOver() error {
	p := d.inherited.predecessor
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*upgradeTimeout)
	defer cancel()
	if err := p.Ready(ctx); err != nil {
		return err
	}
	for _, ln := range d.listeners {
		ln.TakeOver(ln.claim)
	}
	for _, ln := range d.gone {
		ln.TakeOver(ln.claim)
	}
	return nil
}

// tookOver tells the predecessor that handoffs are accepted here, and goes on where its counters are.
func (d *daemon) tookOver() {
	p := d.inherited.predecessor
	if p == nil {
		return
	}
	d.log.Info("upgrade: took over", "pid", os.Getpid())
	var last metrics.Carried
	p.Accepting(func(b json.RawMessage) {
		var c metrics.Carried
		if err := json.Unmarshal(b, &c); err != nil {
			d.log.Warn("upgrade: the predecessor's counts cannot be read: they stay where they are", "error", err)
			return
		}
		last = c
		d.metrics.SetCarried(c)
	})
	go func() {
		<-p.Released()
		for _, ln := range d.gone {
			d.log.Info("no longer configured: the socket is closed", "socket", ln.path, "kind", ln.Kind().String())
			ln.Drain(func() {})
		}
		<-p.Gone()
		d.metrics.SetCarried(last.Ended())
		d.log.Info("upgrade: the predecessor has ended")
	}()
}

// predecessorGone reports whether no predecessor drains any more.
func (d *daemon) predecessorGone() bool {
	if d.inherited.predecessor == nil {
		return true
	}
	select {
	case <-d.inherited.predecessor.Gone():
		return true
	default:
		return false
	}
}

// awaitRelease waits until a predecessor has let go of its sockets, which takes it a moment: a drain shuts them down, and
// the other one would take that for a fault.
func (d *daemon) awaitRelease() {
	p := d.inherited.predecessor
	if p == nil {
		return
	}
	timeout := time.NewTimer(releaseTimeout)
	defer timeout.Stop()
	select {
	case <-p.Released():
	case <-timeout.C:
	}
}

// stopPredecessor passes the end on: a predecessor's streams get the same -shutdown-timeout as ours.
func (d *daemon) stopPredecessor() {
	if p := d.inherited.predecessor; p != nil {
		p.Stop()
	}
}

// retire is the rest of this process's life once s has taken over. Its streams go on until they end by themselves,
// without a limit: nobody waits for it. A signal, or an end of the successor's own, sets the limit of any drain.
func (d *daemon) retire(s *upgrade.Successor, stopping bool, signals <-chan os.Signal) int {
	d.log.Info("upgrade: the successor accepts; draining", "successor", s.PID(), "streams", d.server.Counts().Streams)
	d.notifier.Mute()
	d.draining.Store(true)
	quiet := d.endListeners((*fdrecv.Listener).LetGo)
	var all sync.WaitGroup
	all.Go(d.shutdownFront)
	all.Go(d.shutdownHTTP)
	all.Wait()
	_ = s.Release(d.metrics.Carry()) // an error: the successor has ended, which is found below
	d.server.Drain()
	endCounting := d.keepCounting(s)
	defer func() {
		d.close()
		endCounting()
	}()
	stopped := s.Stopped()
	for !stopping {
		switch d.await(quiet, forever, signals, stopped) {
		case awaited:
			d.log.Info("drained: every stream ended by itself")
			return exitOK
		case told:
			if s.Gone() {
				d.log.Warn("upgrade: the successor has ended; the streams of this process go on")
				stopped = nil
				continue
			}
		}
		stopping = true
	}
	d.stopPredecessor()
	return d.finish(quiet, signals)
}

// keepCounting tells the successor what is counted here, now and then and at the end.
func (d *daemon) keepCounting(s *upgrade.Successor) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(countInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				if s.Count(d.metrics.Carry()) != nil {
					return // nobody is left to tell
				}
			case <-stop:
				final := d.metrics.Carry()
				d.log.Info("upgrade: final counts of this process and those before it", "connections", final.Connections,
					"handoffs", final.Handoffs, "rejected", final.Rejected, "events", final.EventsSent, "bytes", final.BytesSent)
				_ = s.Count(final)
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

// endListeners ends every handoff socket in one of fdrecv's ways. quiet reports whether no handoff, no client and no
// predecessor is left.
func (d *daemon) endListeners(end func(*fdrecv.Listener, func())) (quiet func() bool) {
	var accepting sync.WaitGroup
	for _, ln := range d.listeners {
		accepting.Add(1)
		end(ln.Listener, accepting.Done)
	}
	accepted := make(chan struct{})
	go func() {
		accepting.Wait()
		close(accepted)
	}()
	return func() bool {
		select {
		case <-accepted:
			return d.server.Held() == 0 && d.predecessorGone()
		default:
			return false
		}
	}
}

// shutdownFront ends the front: what does not end in time is cut. Twice is safe.
func (d *daemon) shutdownFront() {
	if d.front == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), httpShutdown)
	defer cancel()
	_ = d.front.Shutdown(ctx)
}

// shutdownHTTP ends the metrics and pprof listeners likewise, side by side: nobody is to wait for a profile that runs.
// Twice is safe.
func (d *daemon) shutdownHTTP() {
	ctx, cancel := context.WithTimeout(context.Background(), httpShutdown)
	defer cancel()
	var all sync.WaitGroup
	for name, s := range d.http {
		all.Go(func() {
			if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				d.log.Warn("HTTP listener", "name", name, "error", err)
			}
		})
	}
	all.Wait()
}
