package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	raiseFDLimit()
	command, args := runOne, os.Args[1:]
	if len(args) > 0 {
		switch args[0] {
		case "compare":
			command, args = runCompare, args[1:]
		case "relay":
			command, args = runRelay, args[1:]
		}
	}
	switch err := command(ctx, args); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

// raiseFDLimit sets the limit on open files to what we may have. Children inherit it.
func raiseFDLimit() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return // scenario.Options says what is missing
	}
	limit.Cur = limit.Max
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
