//go:build race

package conn_test

// raceBuild: the race detector allocates on its own account.
const raceBuild = true
