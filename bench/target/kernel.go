package target

import (
	"os"
	"strings"
)

// Kernel is what the kernel holds for sockets and files, of the whole machine: only a difference tells something, and
// only on a machine where nothing else goes on.
type Kernel struct {
	TCPInUse  int64 `json:"tcp_in_use"`    // sockets
	TCPWait   int64 `json:"tcp_time_wait"` // sockets
	TCPBytes  int64 `json:"tcp_bytes"`     // buffers of TCP sockets, in whole pages
	SlabBytes int64 `json:"slab_bytes"`    // all of the kernel's objects; sockets, files and dentries among them
}

// ReadKernel reads /proc/net/sockstat and /proc/meminfo; what is not readable is 0.
func ReadKernel() Kernel {
	var k Kernel
	if b, err := os.ReadFile("/proc/net/sockstat"); err == nil {
		for line := range strings.Lines(string(b)) {
			name, rest, _ := strings.Cut(line, ":")
			if name != "TCP" {
				continue
			}
			f := strings.Fields(rest) // inuse 5 orphan 0 tw 0 alloc 6 mem 1
			for i := 0; i+1 < len(f); i += 2 {
				switch f[i] {
				case "inuse":
					k.TCPInUse = number(f[i+1])
				case "tw":
					k.TCPWait = number(f[i+1])
				case "mem":
					k.TCPBytes = number(f[i+1]) * int64(os.Getpagesize())
				}
			}
		}
	}
	if fields, err := readFields("/proc/meminfo"); err == nil {
		k.SlabBytes = kilobytes(fields["Slab"])
	}
	return k
}
