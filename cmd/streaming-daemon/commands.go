package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"streaming-daemon-go/cmd/streaming-daemon/config"
)

// loadConfig reads the settings of the command line, the environment and the file. When there is nothing to be started,
// because that was asked for or because of a fault, done is true, and code is the exit code.
func loadConfig(args []string, stdout, stderr io.Writer) (cfg *config.Config, code int, done bool) {
	cfg, err := config.Load(args, os.Environ())
	switch {
	case errors.Is(err, flag.ErrHelp):
		printUsage(stdout)
		return nil, exitOK, true
	case err != nil:
		printFaults(stderr, err)
		return nil, exitBadArgs, true
	case cfg.Version:
		printVersion(stdout)
		return nil, exitOK, true
	}
	return cfg, 0, false
}

// printFaults prints each on a line of its own.
func printFaults(out io.Writer, err error) {
	var faults config.Faults
	if !errors.As(err, &faults) {
		fmt.Fprintln(out, "streaming-daemon:", err)
		return
	}
	for _, f := range faults {
		fmt.Fprintln(out, "streaming-daemon:", f)
	}
}

func printUsage(out io.Writer) {
	fmt.Fprint(out, `streaming-daemon takes over HTTP clients from Apache (the socket comes over a Unix socket)
and streams Server-Sent Events to them.

usage: streaming-daemon [flags]
       streaming-daemon check-config FILE   look for faults in a file of settings; exit code 1 when it has any
       streaming-daemon config [flags]      print the settings in force as such a file, with the source of each
       streaming-daemon handoff [flags]     play Apache from a terminal; -h says more
`)
	config.PrintUsage(out)
}

// runCheckConfig looks for faults in a file, as a deployment does before it puts it in place.
func runCheckConfig(args []string, stdout, stderr io.Writer) int {
	set := flag.NewFlagSet("streaming-daemon check-config", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprintln(stderr, `Looks for faults in a file of settings, each on a line of its own. Neither the environment nor flags count.

usage: streaming-daemon check-config FILE`)
	}
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitBadArgs
	case set.NArg() != 1:
		fmt.Fprintln(stderr, "streaming-daemon check-config: give it one file; -h says more")
		return exitBadArgs
	}
	if _, err := config.LoadFile(set.Arg(0)); err != nil {
		printFaults(stderr, err)
		return exitFailed
	}
	fmt.Fprintf(stdout, "%s: no faults\n", set.Arg(0))
	return exitOK
}

// runConfig prints the settings in force.
func runConfig(args []string, stdout, stderr io.Writer) int {
	cfg, code, done := loadConfig(args, stdout, stderr)
	if done {
		return code
	}
	for _, w := range cfg.Warnings {
		fmt.Fprintln(stderr, "streaming-daemon:", w)
	}
	if err := cfg.Print(stdout); err != nil {
		fmt.Fprintln(stderr, "streaming-daemon:", err)
		return exitFailed
	}
	return exitOK
}
