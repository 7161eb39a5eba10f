//go:build !race

package conn_test

const raceBuild = false
