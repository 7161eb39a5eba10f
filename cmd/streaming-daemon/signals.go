package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"streaming-daemon-go/fdrecv"
)

// serve runs until a signal or a successor ends the daemon and gives the exit code.
func (d *daemon) serve(signals <-chan os.Signal) int {
	d.notifier.Ready(d.inherited.predecessor != nil)
	d.log.Info("ready", "loops", d.loops, "max_connections", d.maxConnections.Load(), "pid", os.Getpid())
	var upgrading *attempt
	var upgraded <-chan struct{} // nil while there is no attempt
	for {
		select {
		case <-upgraded:
			if upgrading.err == nil {
				return d.retire(upgrading.took, false, signals)
			}
			d.log.Warn("upgrade failed, this process goes on: " + upgrading.err.Error())
			upgrading, upgraded = nil, nil
		case sig := <-signals:
			switch {
			case sig == syscall.SIGHUP:
				d.logActive()
				d.reload()
			case sig == syscall.SIGUSR1:
				d.reopenAccessLog()
			case sig == syscall.SIGUSR2 && upgrading != nil:
				d.log.Warn("upgrade: one is under way already")
			case sig == syscall.SIGUSR2:
				upgrading = d.beginUpgrade()
				upgraded = upgrading.done
			default:
				if s := upgrading.giveUp(); s != nil {
					return d.retire(s, true, signals)
				}
				return d.drain(sig, signals)
			}
		}
	}
}

func (d *daemon) logActive() {
	c := d.server.Counts()
	d.log.Info("active", "connections", c.Connections, "streams", c.Streams)
}

// status is one line for the service manager.
func (d *daemon) status() string {
	c := d.metrics.Carry()
	doing := "serving"
	if d.draining.Load() {
		doing = "draining"
	}
	return fmt.Sprintf("%s: %d streams, %d connections, %d handoffs so far", doing, c.ActiveStreams, c.ActiveConnections, c.Handoffs)
}

// drain ends the daemon: handoffs that a sender believes delivered are still taken, streams end by themselves up to
// -shutdown-timeout, the rest is cut, spread in time. A further SIGTERM or SIGINT ends it at once.
func (d *daemon) drain(sig os.Signal, signals <-chan os.Signal) int {
	defer d.close()
	d.log.Info("draining: no new handoffs; streams may end by themselves", "signal", sig.String(),
		"streams", d.server.Counts().Streams, "timeout", d.cfg.ShutdownTimeout)
	d.draining.Store(true)
	d.notifier.Stopping(d.cfg.ShutdownTimeout + cutSpread + cutGrace)
	d.stopPredecessor()
	d.shutdownFront()
	d.server.Drain()
	d.awaitRelease()
	return d.finish(d.endListeners((*fdrecv.Listener).Drain), signals)
}

// finish waits until all is quiet, for -shutdown-timeout, then cuts what is left. It gives the exit code.
func (d *daemon) finish(quiet func() bool, signals <-chan os.Signal) int {
	switch d.await(quiet, d.cfg.ShutdownTimeout, signals, nil) {
	case awaited:
		d.log.Info("drained: every stream ended by itself")
		return exitOK
	case interrupted:
		return d.interrupted()
	}
	d.log.Warn("-shutdown-timeout is over: closing what is left", "streams", d.server.Counts().Streams)
	d.server.Cut(cutSpread)
	ended := d.await(quiet, cutSpread+cutGrace, signals, nil)
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
	told
)

// forever is no timeout.
const forever = time.Duration(1<<63 - 1)

// await looks at a condition until it holds, the timeout is over, a signal says that it does not matter any more, or
// tell is closed.
func (d *daemon) await(holds func() bool, timeout time.Duration, signals <-chan os.Signal, tell <-chan struct{}) outcome {
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
		case <-tell:
			return told
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP: // it ends: other settings would change nothing any more
				d.logActive()
			case syscall.SIGUSR1:
				d.reopenAccessLog()
			case syscall.SIGUSR2: // there is nobody to succeed
			default:
				return interrupted
			}
		}
	}
}
