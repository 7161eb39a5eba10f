// Package accesslog writes one line for each stream when it ends: the web server has handed the client over and cannot.
//
//	loops ──Add──> bounded queue ──> one goroutine ──write──> file or stdout
//	                     |                   ^
//	                     '─ full: dropped    '─ Reopen (logrotate), Close
//	                        and counted
//
// Promises: Add never waits, whatever the disk does. A line is whole or missing, and what is missing is counted. Nothing
// in a line but what was meant to be there: all that clients and payloads say is escaped.
package accesslog
