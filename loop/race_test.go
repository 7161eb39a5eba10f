//go:build race

package loop_test

// raceBuild: netpoll finds its operators another way in race builds.
const raceBuild = true
