//go:build race

package h1tls_test

// raceEnabled: times are not those of the real thing.
const raceEnabled = true
