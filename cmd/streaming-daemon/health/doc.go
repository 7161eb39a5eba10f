// Package health asks the loops whether they turn, for /healthz, for /readyz and for systemd's watchdog.
//
//	/healthz, watchdog ──> Checker ── Post ──> each loop
//	                                <─ within a second, or the loop hangs
//
// A loop that hangs (a callback that blocks or never ends) holds up every client on it while the process looks alive
// from outside; nothing but its own goroutine can say that it turns.
//
// What it refuses to do: end or mend anything. Who asks decides.
package health
