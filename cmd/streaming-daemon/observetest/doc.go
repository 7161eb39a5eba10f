// Package observetest holds what operators look at to the truth: the queries of the README, the panels of the dashboard
// and the rules, asked of a real Prometheus and a real VictoriaMetrics that scrape two real daemons.
//
//	clients ──handoffs──> 2 daemons <──scrapes── Prometheus, VictoriaMetrics <──queries── test
//	   └── what they saw: counts, times ─────────────────── is compared ────────────────────┘
//
// It has tests only. A query that nobody has said the answer of fails, so that none is added unseen.
package observetest
