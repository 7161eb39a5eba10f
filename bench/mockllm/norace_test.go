//go:build !race

package main_test

const slowdown = 1
