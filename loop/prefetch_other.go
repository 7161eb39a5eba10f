//go:build !amd64 && !arm64

package loop

// prefetch has no instruction here that we know of.
func prefetch(*Timer) {}
