// Command streaming-daemon takes over HTTP clients from Apache and streams Server-Sent Events to them.
//
//	streaming-daemon [flags]              the daemon
//	streaming-daemon check-config FILE    looks for faults in a file of settings
//	streaming-daemon config [flags]       prints the settings in force
//	streaming-daemon handoff [flags]      hands over one end of a socket pair, as Apache would, and prints what comes back
//
// The package holds flags, wiring and signals; what a daemon does is in the packages that it wires.
package main
