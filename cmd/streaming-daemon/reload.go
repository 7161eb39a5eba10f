package main

import (
	"strings"

	"streaming-daemon-go/cmd/streaming-daemon/config"
)

// reload reads the file again and puts in force what can change while the daemon runs. A file with a fault changes
// nothing. It is called on the goroutine in serve.
func (d *daemon) reload() {
	if d.cfg.File == "" {
		return
	}
	read, err := d.reread()
	if err != nil {
		d.log.Warn("configuration: nothing is changed: " + strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	for _, w := range read.Warnings {
		d.log.Warn(w)
	}
	next, changed, restart := config.Reload(d.cfg, read)
	if err := d.reopenAs(next); err != nil {
		d.log.Warn("configuration: nothing is changed: " + err.Error())
		return
	}
	if len(restart) > 0 {
		d.log.Warn("configuration: these take a restart or an upgrade (SIGUSR2): "+strings.Join(restart, ", "), "file", next.File)
	}
	d.cfg = next
	d.logging.set(next.LogLevel, next.LogFormat)
	for _, ln := range d.listeners {
		ln.SetTimeout(next.HandoffTimeout)
	}
	d.server.Reconfigure(d.streamConfig())
	d.log.Info("configuration: read again", "file", next.File, "changed", strings.Join(changed, ", "))
}

// reopenAs puts another access log in the place of the one that is, if next asks for another.
func (d *daemon) reopenAs(next *config.Config) error {
	if next.AccessLog == d.cfg.AccessLog && next.AccessLogFormat == d.cfg.AccessLogFormat {
		return nil
	}
	log, err := openAccessLog(d, next.AccessLog, next.AccessLogFormat)
	if err != nil {
		return err
	}
	if old := d.access.Swap(log); old != nil {
		go old.Close() // it may take a second
	}
	return nil
}
