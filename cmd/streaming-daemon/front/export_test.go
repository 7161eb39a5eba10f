package front

import (
	"time"
)

// Limits are the bounds that tests tighten; zero leaves one as it is.
type Limits struct {
	HeaderRead, SendGrace time.Duration
	Conns                 int
}

// StartLimited is Start with other limits.
func StartLimited(cfg Config, l Limits) (*Server, error) {
	lim := serverLimits
	if l.HeaderRead > 0 {
		lim.HeaderRead = l.HeaderRead
	}
	if l.SendGrace > 0 {
		lim.Grace = l.SendGrace
	}
	if l.Conns > 0 {
		lim.Conns = l.Conns
	}
	return start(cfg, lim)
}

// AssetNames are the paths, without their slash, of everything but the page.
func AssetNames() []string {
	var names []string
	for _, a := range assets {
		names = append(names, a.name)
	}
	return names
}
