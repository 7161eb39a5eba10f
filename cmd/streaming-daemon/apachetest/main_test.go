package apachetest_test

import (
	"os"
	"testing"

	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }
