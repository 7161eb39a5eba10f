// Package metrics owns the name, type, help text and exposition of every
// metric of the daemon, and the HTTP endpoint that serves them.
//
//	loops, fdrecv, conns --plain counters--> read() Snapshot --.
//	stream ends ----------ObserveStream, ...--> histograms -----+--> page --> /metrics
//	runtime/metrics, /proc/self --------------------------------'
//
// Nothing is counted here on the hot path. The loops count in plain structs of
// their own; the read function given to New sums them at each scrape, so a
// gauge is computed from the truth and cannot drift. Only durations that are
// known once per stream are observed here, under a mutex.
//
// Promises: each family stands once on the page, with HELP (never empty) and
// TYPE before its samples; every series that will ever exist is there from the
// first scrape, so that rate() sees the step from 0 to 1; promtool check
// metrics finds nothing. No lock of this package is held while read runs or
// while a scraper is slow to read the page.
//
// The library's own gauges, counters and process metrics are not used: they
// have no help text (promtool reports that) and a gauge callback reads one
// number at a time, where a page should show one instant. What is used is
// PrometheusHistogram, whose buckets carry le labels, and
// Set.RegisterMetricsWriter.
package metrics
