package metrics

import (
	"log/slog"
	"net/http"
	"time"

	"streaming-daemon-go/metrics/endpoint"
)

// ShortLimits are limits that a test can run into; 0 leaves one as it is.
type ShortLimits struct {
	HeaderRead, Read, Write, Idle time.Duration
	Conns                         int
}

// ListenShort is Listen with some limits made short.
func ListenShort(addr string, h http.Handler, log *slog.Logger, short ShortLimits) (*endpoint.Server, error) {
	lim := serverLimits
	for _, l := range []struct{ from, to *time.Duration }{
		{&short.HeaderRead, &lim.HeaderRead},
		{&short.Read, &lim.Read},
		{&short.Write, &lim.Write},
		{&short.Idle, &lim.Idle},
	} {
		if *l.from > 0 {
			*l.to = *l.from
		}
	}
	if short.Conns > 0 {
		lim.Conns = short.Conns
	}
	return listen(metricsFlag, addr, h, log, lim)
}

// ParseStat returns the start in ticks, the virtual and the resident bytes.
func ParseStat(data string, pageBytes uint64) (start, virtual, resident uint64, err error) {
	s, err := parseStat([]byte(data), pageBytes)
	return s.startTicks, s.virtualBytes, s.residentBytes, err
}

// ParseBoot and the two ways to count descriptors are tested one by one.
var (
	ParseBoot = parseBoot
	OpenFDs   = openFDs
	ListFDs   = listFDs
)
