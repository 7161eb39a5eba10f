//go:build amd64 || arm64

package loop

// prefetch asks for the cache line of t and those on both sides: what fires is most likely around its Timer. While one
// stream's send is in the kernel, for 4 us, the lines of a later one arrive; each would cost its turn some 80 ns. With
// 18,000 streams of an event per second, 2 % of all CPU. It never faults.
//
//go:noescape
func prefetch(t *Timer)
