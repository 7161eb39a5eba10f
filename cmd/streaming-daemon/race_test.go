//go:build race

package main_test

// raceEnabled: this test runs under the race detector, so the daemon is built with it too.
const raceEnabled = true
