package main

import _ "embed"

// floorSource is the bare epoll loop; it travels inside the harness, so that -target floor works from any directory.
//
//go:embed floor/floor.c
var floorSource []byte
