// Package target builds, starts and watches what the load harness measures: the daemon, or one of the two programs it
// is compared with. It sees them from outside only: a command line, a handoff socket, and /proc.
//
//	Build --> Spec --Start--> Process --Sample--> CPU, memory, descriptors, context switches
//	                            '--Stop--> exit
package target
