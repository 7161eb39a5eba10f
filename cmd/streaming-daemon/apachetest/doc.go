// Package apachetest runs a real Apache, and PHP behind it, with the configuration of deploy/.
//
//	test ── Start ──> apache2 (event or prefork), own ServerRoot, free port of loopback
//	                    │  httpd.conf: what every Apache has      (here)
//	                    │  Include deploy/apache/….conf           (what an operator installs, as it is)
//	                    └─ PHP: php-fpm behind event, mod_php in prefork
//
// The files of deploy/ are the very ones that an operator reads: the paths in them are names that `Define` sets, to
// other values here. Everything ends with the test.
package apachetest
