//go:build race

package packagetest_test

const raceEnabled = true
