//go:build race

package h2_test

// raceEnabled: times are not those of the real thing.
const raceEnabled = true
