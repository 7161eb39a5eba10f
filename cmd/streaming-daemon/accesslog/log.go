package accesslog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	queued    = 4096             // entries that may wait, 0.9 MB: a second's worth of a busy site's streams
	batch     = 64 << 10         // bytes, about 200 lines: what one write takes at most, and one more line
	closeWait = time.Second      // for the end of a file that does not take its lines
	logPause  = 10 * time.Second // between two lines about a file that cannot be written
)

// Stdout is the path that stands for the standard output.
const Stdout = "-"

// Config is what a Log needs; all of it is required.
type Config struct {
	Path    string // of the file, which is made when it is not there (mode 0640) and appended to; or Stdout
	Format  Format
	Dropped *atomic.Uint64 // counts the lines that were lost; the caller's, so that it outlives this Log
	Log     *slog.Logger   // hears of a file that cannot be written
}

// Log is an access log that is open. It must end with Close.
type Log struct {
	cfg     Config // immutable
	entries chan Entry
	reopen  chan struct{} // holds one: two wishes are one
	stop    chan struct{} // closed by Close
	closing sync.Once
	done    chan struct{} // closed once the last line is written

	// owned by the goroutine in run
	out    io.Writer
	file   *os.File // nil: out is not ours to close
	torn   bool     // the last write ended within a line
	logged time.Time
}

// Open opens the file and starts the goroutine that writes to it. An error is one line that names the path.
func Open(cfg Config) (*Log, error) {
	l := &Log{cfg: cfg, entries: make(chan Entry, queued), reopen: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	if cfg.Path == Stdout {
		l.out = os.Stdout
	} else if err := l.open(); err != nil {
		return nil, err
	}
	go l.run()
	return l, nil
}

// open opens the file in place of the one that is open, which stays when that fails.
func (l *Log) open() error {
	// Without O_NONBLOCK, a named pipe that nobody reads would hold up the start; with it, that is an error (ENXIO).
	f, err := os.OpenFile(l.cfg.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		var cause *os.PathError
		if errors.As(err, &cause) {
			err = cause.Err
		}
		return fmt.Errorf("accesslog: cannot open %q: the directory must exist and the file be writable for this user: %w", l.cfg.Path, err)
	}
	if l.file != nil {
		_ = l.file.Close()
	}
	l.file, l.out, l.torn = f, f, false
	return nil
}

// Add queues the line of a stream that has ended. It never waits: when the queue is full, or the Log closed, the line is
// lost and counted. Any goroutine.
func (l *Log) Add(e Entry) {
	select {
	case <-l.stop:
	default:
		select {
		case l.entries <- e:
			return
		default:
		}
	}
	l.cfg.Dropped.Add(1)
}

// Reopen closes the file and opens its path again, as after a rotation: lines that are added from now on go to the new
// file. What is queued goes to either. When it cannot be opened, that is logged and the old one stays. Stdout stays as it
// is. Any goroutine; it does not wait.
func (l *Log) Reopen() {
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Close writes what is queued and closes the file, for a second at most: a reader that does not read cannot hold up the
// end. Any goroutine; twice is safe.
func (l *Log) Close() {
	l.closing.Do(func() { close(l.stop) })
	timeout := time.NewTimer(closeWait)
	defer timeout.Stop()
	select {
	case <-l.done:
	case <-timeout.C:
	}
}

func (l *Log) run() {
	defer close(l.done)
	buffer := make([]byte, 0, batch+4096)
	for {
		select {
		case <-l.reopen:
			if l.file != nil {
				if err := l.open(); err != nil {
					l.cfg.Log.Error("the access log goes on to the old file: " + err.Error())
				}
			}
		case e := <-l.entries:
			l.write(l.fill(l.cfg.Format.Append(buffer, &e)))
		case <-l.stop:
			for b := l.fill(buffer); len(b) > 0; b = l.fill(buffer) {
				l.write(b)
			}
			if l.file != nil {
				_ = l.file.Close()
			}
			return
		}
	}
}

// fill adds lines as long as some are queued and there is room.
func (l *Log) fill(b []byte) []byte {
	for len(b) < batch {
		select {
		case e := <-l.entries:
			b = l.cfg.Format.Append(b, &e)
		default:
			return b
		}
	}
	return b
}

// write writes whole lines with one call. What the file does not take is lost and counted.
func (l *Log) write(b []byte) {
	if l.torn {
		b = append([]byte{'\n'}, b...)
	}
	n, err := l.out.Write(b)
	if n > 0 {
		l.torn = b[n-1] != '\n'
	}
	if err == nil {
		return
	}
	lost := bytes.Count(b[n:], []byte{'\n'})
	if n == 0 && l.torn {
		lost-- // the line end that was to end the torn line
	}
	l.cfg.Dropped.Add(uint64(lost))
	if now := time.Now(); now.Sub(l.logged) >= logPause {
		l.logged = now
		l.cfg.Log.Error("the access log cannot be written: lines are lost", "path", l.cfg.Path, "lines", lost, "error", err)
	}
}
