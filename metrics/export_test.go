package metrics

import (
	"log/slog"
	"net/http"
	"time"
)

// ShortLimits are limits that a test can run into.
type ShortLimits struct {
	HeaderRead time.Duration
	Conns      int
}

// ListenShort is Listen with some limits made short.
func ListenShort(addr string, h http.Handler, log *slog.Logger, short ShortLimits) (*Server, error) {
	lim := serverLimits
	if short.HeaderRead > 0 {
		lim.headerRead = short.HeaderRead
	}
	if short.Conns > 0 {
		lim.conns = short.Conns
	}
	return listen("-metrics-addr", addr, h, log, lim)
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
