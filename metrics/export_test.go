package metrics

import (
	"log/slog"
	"net/http"
	"time"
)

// ShortLimits are limits that a test can run into; 0 leaves one as it is.
type ShortLimits struct {
	HeaderRead, Read, Write, Idle time.Duration
	Conns                         int
}

// ListenShort is Listen with some limits made short.
func ListenShort(addr string, h http.Handler, log *slog.Logger, short ShortLimits) (*Server, error) {
	lim := serverLimits
	for _, l := range []struct{ from, to *time.Duration }{
		{&short.HeaderRead, &lim.headerRead},
		{&short.Read, &lim.read},
		{&short.Write, &lim.write},
		{&short.Idle, &lim.idle},
	} {
		if *l.from > 0 {
			*l.to = *l.from
		}
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
