// Package config reads the daemon's settings.
//
//	defaults < FILE (-config) < environment < flags
//	                  |
//	                  v
//	   one table of settings ──> Config, with the source of every value
//	                  |
//	                  '──> -h, `config`, names to guess from
//
// A setting has one name everywhere: max-connections in the file, -max-connections on the command line,
// STREAMING_DAEMON_MAX_CONNECTIONS in the environment; one text form, and one range. What is wrong is a Fault that says
// where, what, and what it must be; all that are found are given at once.
//
// The package reads one file and asks the system for users and groups. It opens no socket and changes nothing.
package config
