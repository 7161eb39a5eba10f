// Package chromiumtest drives a headless Chromium from tests.
//
//	test ── commands ──> pipe ──> Chromium, one tab, a profile of its own ── HTTP ──> what the test serves on loopback
//	     <── answers ─── pipe <──
//
// The browser talks to nobody else (the flags see to that), writes into a directory that goes with it, and ends with
// the test, its helper processes too.
package chromiumtest
