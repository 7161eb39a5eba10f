package metrics

import (
	"runtime"
	"strconv"
)

// writeDaemon writes every daemon_* family from one Snapshot. The names, types
// and labels are an interface: dashboards rely on them, and a test compares
// the whole list.
func (m *Metrics) writeDaemon(p *page) {
	all := m.Carry()
	s := all.Snapshot
	m.writeHandoffs(p, &all)
	m.writeStreams(p, &all)
	m.writeBackends(p, &all)

	p.family("daemon_loop_streams", gauge, "Streams on each event loop now.")
	for i, n := range s.LoopStreams {
		sample(p, "daemon_loop_streams", n, label{"loop", strconv.Itoa(i)})
	}
	p.buckets("daemon_loop_lag_seconds", "How late timers and posted functions ran on the event loops.", s.LoopLag)

	var draining int64
	if s.Draining {
		draining = 1
	}
	one(p, "daemon_draining", gauge, "1 from the start of a drain: no new handoffs, streams are ending.", draining)
	p.family("daemon_build_info", gauge, "Which build runs; the value is always 1.")
	sample(p, "daemon_build_info", int64(1),
		label{"version", m.build.Version}, label{"goversion", runtime.Version()}, label{"revision", m.build.Revision})
}

// writeHandoffs writes what concerns clients up to their stream.
func (m *Metrics) writeHandoffs(p *page, s *Carried) {
	one(p, "daemon_active_connections", gauge, "Client sockets held now.", s.ActiveConnections)
	one(p, "daemon_max_connections", gauge, "Client sockets held at most; handoffs beyond it are rejected.", s.MaxConnections)
	one(p, "daemon_connections_total", counter, "Handoff connections accepted.", s.Connections)
	one(p, "daemon_connections_rejected_total", counter, "Handoffs refused with an answer or a close instead of a stream.", s.Rejected)
	one(p, "daemon_handoffs_total", counter, "Descriptors received with a usable payload.", s.Handoffs)
	p.reasons("daemon_handoff_errors_total", "Handoffs that failed, by reason.", &s.HandoffErrors)
	p.buckets(m.handoff.name, m.handoff.help, s.Handoff)
}

// writeStreams writes what concerns clients from their stream on.
func (m *Metrics) writeStreams(p *page, s *Carried) {
	one(p, "daemon_active_streams", gauge, "Streams that have begun and not ended.", s.ActiveStreams)
	one(p, "daemon_peak_streams", gauge, "Highest number of active streams since the start.", s.PeakStreams)
	one(p, "daemon_paused_streams", gauge, "Streams whose backend is paused because the client is slow.", s.PausedStreams)
	one(p, "daemon_pending_bytes", gauge, "Bytes accepted for clients and not yet taken by the kernel.", s.PendingBytes)
	one(p, "daemon_events_sent_total", counter, "Events written to clients.", s.EventsSent)
	one(p, "daemon_bytes_sent_total", counter, "Bytes written to clients, response heads included.", s.BytesSent)
	one(p, "daemon_evicted_total", counter, "Clients closed as the slowest when pending bytes of all passed their cap.", s.Evicted)
	one(p, "daemon_access_log_dropped_total", counter, "Lines of the access log that were lost.", s.AccessLogDropped)
	p.reasons("daemon_stream_errors_total", "Streams that ended early, by reason.", &s.StreamErrors)
	p.buckets(m.stream.name, m.stream.help, s.Stream)
	p.buckets(m.firstByte.name, m.firstByte.help, s.FirstByte)
}
