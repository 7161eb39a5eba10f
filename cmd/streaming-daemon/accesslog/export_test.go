package accesslog

import "io"

// Writer is the writing end of a Log without its goroutine.
type Writer struct{ l Log }

func NewWriter(cfg Config, out io.Writer) *Writer { return &Writer{Log{cfg: cfg, out: out}} }

func (w *Writer) Write(lines []byte) { w.l.write(lines) }
