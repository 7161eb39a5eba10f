package stream

import "streaming-daemon-go/loop"

// Reconfigure puts new settings in force, for open streams too: MaxConnections (nobody is closed for it), RejectReserve,
// RejectSSE, RetryAfter, MaxPendingBytes, HeartbeatInterval, MaxStreamDuration (a stream that is older already ends),
// Conn (see conn.Shard.Reconfigure), and for clients that come KeepAccess. All else in cfg is ignored. Each loop follows
// in its next turn; open streams hear of new times drainTurn of them per tick. Any goroutine.
func (s *Server) Reconfigure(cfg Config) {
	s.budget.SetLimit(cfg.MaxPendingBytes)
	for _, sh := range s.shards {
		_ = sh.loop.Post(func() { sh.reconfigure(cfg) }) // ErrClosed: no streams are left there
	}
}

func (sh *shard) reconfigure(cfg Config) {
	was := sh.cfg
	cfg.NewBackend, cfg.Log = was.NewBackend, was.Log
	cfg.FirstByte, cfg.Ended, cfg.Rejected, cfg.OpenFailed = was.FirstByte, was.Ended, was.Rejected, was.OpenFailed
	sh.cfg = &cfg
	sh.conns.Reconfigure(cfg.Conn)
	if cfg.HeartbeatInterval == was.HeartbeatInterval && cfg.MaxStreamDuration == was.MaxStreamDuration {
		return
	}
	streams := sh.streams()
	newRound(sh, streams, (len(streams)+drainTurn-1)/drainTurn, loop.TickLength, (*Stream).setTimer)
}
