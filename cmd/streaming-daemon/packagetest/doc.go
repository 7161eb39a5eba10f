// Package packagetest builds what is given to operators, once, and looks at it.
//
//	make release ──> binaries, Debian packages, SHA256SUMS ──> static? which commit? whole?
//	                            └── dpkg --root=an empty directory ──> the installed binary serves a client
//
// It has tests only. systemd does not run in a test: what the package's scripts tell it is left out.
package packagetest
