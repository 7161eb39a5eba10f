package main

import (
	"context"
	"os"
	"sync"
	"syscall"
	"time"
)

// serve runs until a signal ends the daemon and gives the exit code.
func (d *daemon) serve(signals <-chan os.Signal) int {
	d.log.Info("ready", "loops", d.cfg.loops, "max_connections", d.maxConnections, "pid", os.Getpid())
	for sig := range signals {
		if sig == syscall.SIGHUP {
			d.logActive()
			continue
		}
		d.log.Info("draining: no new handoffs; streams may end by themselves", "signal", sig.String(),
			"streams", d.server.Counts().Streams, "timeout", d.cfg.shutdownTimeout)
		return d.drain(signals)
	}
	return exitOK
}

func (d *daemon) logActive() {
	c := d.server.Counts()
	d.log.Info("active", "connections", c.Connections, "streams", c.Streams)
}

// drain ends the daemon: handoffs that a sender believes delivered are still taken, streams end by themselves up to
// -shutdown-timeout, the rest is cut, spread in time. A further SIGTERM or SIGINT ends it at once.
func (d *daemon) drain(signals <-chan os.Signal) int {
	defer d.close()
	d.draining.Store(true)
	if d.front != nil {
		ctx, cancel := context.WithTimeout(context.Background(), httpShutdown)
		_ = d.front.Shutdown(ctx) // what does not end in time is cut
		cancel()
	}
	d.server.Drain()
	var accepting sync.WaitGroup
	for _, ln := range d.listeners {
		accepting.Add(1)
		ln.Drain(accepting.Done)
	}
	accepted := make(chan struct{})
	go func() {
		accepting.Wait()
		close(accepted)
	}()
	quiet := func() bool {
		select {
		case <-accepted:
			return d.server.Held() == 0
		default:
			return false
		}
	}
	switch d.await(quiet, d.cfg.shutdownTimeout, signals) {
	case awaited:
		d.log.Info("drained: every stream ended by itself")
		return exitOK
	case interrupted:
		return d.interrupted()
	}
	d.log.Warn("-shutdown-timeout is over: closing what is left", "streams", d.server.Counts().Streams)
	d.server.Cut(cutSpread)
	ended := d.await(quiet, cutSpread+cutGrace, signals)
	if ended == interrupted {
		return d.interrupted()
	}
	c := d.server.Counts()
	d.log.Info("ended", "streams_cut", c.Cut, "streams_left", c.Streams)
	if ended == awaited && c.Cut == 0 {
		return exitOK // clients that were slow to close were all that was left
	}
	return exitFailed
}

func (d *daemon) interrupted() int {
	d.log.Warn("a second signal: ending at once", "streams", d.server.Counts().Streams)
	return exitFailed
}

// outcome is how await ended.
type outcome int

const (
	awaited outcome = iota
	timedOut
	interrupted
)

// await looks at a condition until it holds, the timeout is over or a signal says that it does not matter any more.
func (d *daemon) await(holds func() bool, timeout time.Duration, signals <-chan os.Signal) outcome {
	deadline := time.NewTimer(timeout)
	defer deadline.Stop()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for {
		if holds() {
			return awaited
		}
		select {
		case <-poll.C:
		case <-deadline.C:
			return timedOut
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				return interrupted
			}
			d.logActive()
		}
	}
}
