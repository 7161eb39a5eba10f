package systemd

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

const (
	statusInterval = 10 * time.Second // between two STATUS lines at least; systemd keeps the last one
	queued         = 16               // notifications that may wait for systemd; past it they are lost
	closeWait      = time.Second      // for the last of them
)

// Config is what a Notifier asks. Both functions may be called from any goroutine, and may wait.
type Config struct {
	// Status is one line for `systemctl status`.
	Status func() string
	// Hung asks the loops and waits up to timeout: those that did not answer, nil when all did.
	Hung func(timeout time.Duration) []int
	Log  *slog.Logger
}

// Notifier tells the service manager how the daemon is. Any goroutine; no method waits but Close.
type Notifier struct {
	cfg   Config
	send  chan string // "" ends the goroutine
	done  chan struct{}
	mute  chan struct{} // closed by Mute
	every time.Duration // between two pings; 0: no watchdog
}

// NewNotifier reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID and starts a goroutine that sends status and pings,
// from Ready on. End it with Close. An error names the variable.
func NewNotifier(cfg Config) (*Notifier, error) {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return nil, fmt.Errorf("systemd: %w", err)
	}
	n := &Notifier{cfg: cfg, send: make(chan string, queued), done: make(chan struct{}), mute: make(chan struct{}),
		every: timeout / 2} // as sd_watchdog_enabled(3) recommends
	if os.Getenv("NOTIFY_SOCKET") == "" {
		n.every = 0
	}
	go n.run()
	return n, nil
}

// Ready says that the daemon serves. successor: it has taken the place of another process, which was the main process
// of the service so far (the unit needs NotifyAccess=all).
func (n *Notifier) Ready(successor bool) {
	state := daemon.SdNotifyReady + "\n" + n.status()
	if successor {
		state = "MAINPID=" + strconv.Itoa(os.Getpid()) + "\n" + state
	}
	n.queue(state)
}

// Stopping says that the daemon drains for its end, which may take up to limit.
func (n *Notifier) Stopping(limit time.Duration) {
	n.queue(daemon.SdNotifyStopping + "\nEXTEND_TIMEOUT_USEC=" + strconv.FormatInt(limit.Microseconds(), 10) + "\n" + n.status())
}

// Mute is for a process whose successor has taken over: no word from it any more, no ping above all, which would hide
// a successor that hangs. Once.
func (n *Notifier) Mute() { close(n.mute) }

// Close sends what is queued, for a bounded time, and ends the goroutine. Once.
func (n *Notifier) Close() {
	n.queue("")
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	select {
	case <-n.done:
	case <-timeout.C:
	}
}

func (n *Notifier) status() string { return "STATUS=" + n.cfg.Status() }

func (n *Notifier) queue(state string) {
	select {
	case n.send <- state:
	default: // systemd has not read for so long that one more would not help
	}
}

func (n *Notifier) run() {
	defer close(n.done)
	var ping <-chan time.Time
	if n.every > 0 {
		ticker := time.NewTicker(n.every)
		defer ticker.Stop()
		ping = ticker.C
	}
	status := time.NewTicker(statusInterval)
	defer status.Stop()
	ready, last := false, ""
	for {
		select {
		case state := <-n.send:
			if state == "" {
				return
			}
			ready = true
			n.notify(state)
		case <-ping:
			n.ping()
		case <-status.C:
			if !ready {
				continue
			}
			if now := n.status(); now != last {
				last = now
				n.notify(now)
			}
		}
	}
}

// ping tells the watchdog that every loop turns, when that is true.
func (n *Notifier) ping() {
	if hung := n.cfg.Hung(n.every); hung != nil {
		n.cfg.Log.Error("no watchdog ping: loops do not answer", "loops", hung, "within", n.every)
		return
	}
	n.notify(daemon.SdNotifyWatchdog)
}

func (n *Notifier) notify(state string) {
	select {
	case <-n.mute:
		return
	default:
	}
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.cfg.Log.Warn("systemd does not take notifications", "error", err)
	}
}
