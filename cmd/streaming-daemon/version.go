package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the Makefile (-ldflags -X); a plain `go build` leaves what the module knows.
var version = ""

// buildVersion gives the version and the commit of this binary, as far as they are known.
func buildVersion() (v, revision string) {
	v, revision = version, "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, revision
	}
	if v == "" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.modified":
			if s.Value == "true" {
				defer func() { revision += "-dirty" }()
			}
		}
	}
	return v, revision
}

func printVersion(out io.Writer) {
	v, revision := buildVersion()
	fmt.Fprintf(out, "streaming-daemon %s (commit %s, %s %s/%s)\n", v, revision, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
