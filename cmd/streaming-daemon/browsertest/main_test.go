package browsertest_test

import (
	"flag"
	"os"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/daemontest"
)

// patience bounds every wait: far beyond what a loaded machine needs.
const patience = 30 * time.Second

var (
	update     = flag.Bool("update", false, "record sse/testdata/eventsource.json anew")
	screenshot = flag.String("screenshot", "", "write the page while both panels stream to this `file`, for the README")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(daemontest.Main(m))
}
