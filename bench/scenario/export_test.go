package scenario

import "streaming-daemon-go/bench/target"

// Judge gives the warnings that a run with this result ends with.
func Judge(p *target.Process, o Options, result *Result) []string {
	r := &run{o: o, p: p, result: result}
	r.judge()
	return result.Warnings
}
