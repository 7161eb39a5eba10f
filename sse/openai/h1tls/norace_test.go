//go:build !race

package h1tls_test

const raceEnabled = false
