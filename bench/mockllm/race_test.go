//go:build race

package main_test

// slowdown divides what a test does much of: the race detector makes everything ten times slower.
const slowdown = 10
