// Package systemd speaks with the service manager: what it is told (sd_notify) and what it has opened for us
// (socket activation).
//
//	systemd ── LISTEN_FDS, LISTEN_FDNAMES ──> Sockets ──> stream, seqpacket, fdpass, metrics
//	   ^
//	   └── READY, MAINPID, STATUS, WATCHDOG, STOPPING ── Notifier <── the daemon, and the loops' answers
//
// A watchdog ping says that every loop has answered since the one before: a loop that hangs stops the pings, and systemd
// restarts the service. Without a NOTIFY_SOCKET in the environment nothing is sent, and nothing else is different.
//
// What it refuses to do: wait for the service manager. What it does not take in time is lost.
package systemd
