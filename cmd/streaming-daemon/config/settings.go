package config

import (
	"math"
	"strings"
	"time"
)

// setting is one row of the table.
type setting struct {
	name        string
	placeholder string // what stands for the value in -h
	usage       string
	reload      bool   // a SIGHUP applies a change; otherwise it takes a restart
	notInFile   bool   // it says where the file is
	alias       string // another name in the environment, which the users of such daemons know; env wins over it
	value       func(c *Config) value
}

// group is a heading of -h and the settings below it.
type group struct {
	title    string
	settings []setting
}

const day = 24 * time.Hour

// groups is the table. Its order is that of -h.
var groups = []group{
	{"Handoffs", []setting{
		{name: "socket", placeholder: "path",
			usage: "handoffs over SOCK_STREAM (mod_socket_handoff before March 2026); empty: off",
			value: func(c *Config) value { return text{&c.Socket} }},
		{name: "seqpacket-socket", placeholder: "path",
			usage: "handoffs over SOCK_SEQPACKET (mod_socket_handoff since March 2026); empty: off",
			value: func(c *Config) value { return text{&c.SeqpacketSocket} }},
		{name: "fdpass-socket", placeholder: "path", usage: "handoffs from the stock mod_proxy_fdpass; empty: off",
			value: func(c *Config) value { return text{&c.FDPassSocket} }},
		{name: "socket-mode", placeholder: "bits", usage: "permission bits of the sockets, in octal",
			value: func(c *Config) value { return mode{&c.SocketMode} }},
		{name: "socket-owner", placeholder: "user", usage: "owner of the sockets, by name or number; empty: who starts the daemon",
			value: func(c *Config) value { return text{&c.SocketOwner} }},
		{name: "socket-group", placeholder: "group",
			usage: "group of the sockets, by name or number, such as www-data: that of the web server; empty: of who starts the daemon",
			value: func(c *Config) value { return text{&c.SocketGroup} }},
		{name: "handoff-timeout", placeholder: "duration", reload: true, usage: "how long a handoff may take",
			value: func(c *Config) value { return duration{&c.HandoffTimeout, 1, 10 * time.Minute} }},
	}},
	{"Streams", []setting{
		{name: "max-connections", placeholder: "N", reload: true, usage: "streams at a time; clients beyond get a 503",
			value: func(c *Config) value { return count{&c.MaxConnections, 1, 10_000_000} }},
		{name: "reject", placeholder: "http|sse", reload: true,
			usage: "answer past -max-connections: http (503) or sse (200 with an `overloaded` event: EventSource comes back)",
			value: func(c *Config) value { return choice{&c.Reject, []string{"http", "sse"}} }},
		{name: "heartbeat-interval", placeholder: "duration", reload: true, usage: "comment line on an idle stream; 0: none",
			value: func(c *Config) value { return duration{&c.HeartbeatInterval, 0, day} }},
		{name: "write-timeout", placeholder: "duration", reload: true, usage: "a client that takes no byte for so long is closed",
			value: func(c *Config) value { return duration{&c.WriteTimeout, time.Millisecond, day} }},
		{name: "max-stream-duration", placeholder: "duration", reload: true, usage: "end of every stream; 0: none",
			value: func(c *Config) value { return duration{&c.MaxStreamDuration, 0, 366 * day} }},
		{name: "max-pending-bytes", placeholder: "size", reload: true,
			usage: "bytes that may wait for all clients together, such as 256MiB; past it the slowest are evicted",
			value: func(c *Config) value { return size{&c.MaxPendingBytes, 1 << 16, 1 << 40} }},
	}},
	{"Backend", []setting{
		{name: "backend", placeholder: strings.Join(Backends, "|"), usage: "what makes the events, unless a payload's `backend` names another that is configured",
			value: func(c *Config) value { return choice{&c.Backend, Backends} }},
		{name: "demo-delay", placeholder: "duration", usage: "demo: time between events; 0: as fast as the client reads",
			value: func(c *Config) value { return duration{&c.DemoDelay, 0, day} }},
		{name: "demo-messages", placeholder: "N", usage: "demo: send N equal events in place of the prompt; 0: off",
			value: func(c *Config) value { return count{&c.DemoMessages, 0, math.MaxInt32} }},
	}},
	{"OpenAI backend", []setting{
		{name: "openai-base", placeholder: "URL", alias: "OPENAI_API_BASE",
			usage: "the API, up to and with /v1; OPENAI_API_BASE sets it too; empty: https://api.openai.com/v1",
			value: func(c *Config) value { return text{&c.OpenAIBase} }},
		{name: "openai-socket", placeholder: "path", alias: "OPENAI_API_SOCKET",
			usage: "Unix socket of a local proxy, in place of the base's host; OPENAI_API_SOCKET sets it too",
			value: func(c *Config) value { return text{&c.OpenAISocket} }},
		{name: "openai-key-header", placeholder: "name", usage: "header field that carries the bare key, such as api-key; empty: Authorization, as Bearer",
			value: func(c *Config) value { return text{&c.OpenAIKeyHeader} }},
		{name: "openai-profiles", placeholder: "file", usage: "JSON with upstreams and settings that a payload's `profile` may name; headers to add are set there",
			value: func(c *Config) value { return text{&c.OpenAIProfiles} }},
		{name: "default-model", placeholder: "name", usage: "model of payloads that name none",
			value: func(c *Config) value { return text{&c.DefaultModel} }},
		{name: "openai-relay", placeholder: "simple|raw", usage: "what clients read: the text as `content` events, or the API's own events",
			value: func(c *Config) value { return choice{&c.OpenAIRelay, []string{"simple", "raw"}} }},
		{name: "head-timeout", placeholder: "duration", usage: "a client gets its response head by then, so that it sees heartbeats while a model thinks",
			value: func(c *Config) value { return duration{&c.HeadTimeout, time.Millisecond, time.Hour} }},
		{name: "openai-connect-timeout", placeholder: "duration", usage: "for name, connection and TLS together",
			value: func(c *Config) value { return duration{&c.OpenAIConnectTimeout, time.Millisecond, 10 * time.Minute} }},
		{name: "openai-first-byte-timeout", placeholder: "duration", usage: "from the request to the first byte of the answer's body",
			value: func(c *Config) value { return duration{&c.OpenAIFirstByteTimeout, time.Millisecond, day} }},
		{name: "openai-idle-timeout", placeholder: "duration", usage: "a completion that has begun and brings nothing for so long is ended",
			value: func(c *Config) value { return duration{&c.OpenAIIdleTimeout, time.Millisecond, day} }},
		{name: "openai-total-timeout", placeholder: "duration", usage: "end of every completion; 0: none",
			value: func(c *Config) value { return duration{&c.OpenAITotalTimeout, 0, 366 * day} }},
		{name: "max-upstream-streams", placeholder: "N", usage: "completions at a time; clients beyond get a 503; 0: no limit",
			value: func(c *Config) value { return count{&c.MaxUpstreamStreams, 0, 10_000_000} }},
		{name: "openai-idle-conns", placeholder: "N",
			usage: "http: connections kept for the next completion, per loop and upstream (fewer where the limit on open files is low); 0: none",
			value: func(c *Config) value { return count{&c.OpenAIIdleConns, 0, 100_000} }},
		{name: "openai-idle-conn-timeout", placeholder: "duration", usage: "how long; shorter than the upstream's own",
			value: func(c *Config) value { return duration{&c.OpenAIIdleConnTimeout, time.Millisecond, day} }},
		{name: "openai-h2c", usage: "http: speak HTTP/2 from the first byte (prior knowledge)",
			value: func(c *Config) value { return truth{&c.OpenAIH2C} }},
		{name: "openai-insecure-tls", usage: "for tests only: the upstream's certificate is NOT verified",
			value: func(c *Config) value { return truth{&c.OpenAIInsecureTLS} }},
	}},
	{"Process", []setting{
		{name: "config", placeholder: "file", notInFile: true,
			usage: "settings in YAML, under the names of the flags without the dash; SIGHUP reads it again",
			value: func(c *Config) value { return text{&c.File} }},
		{name: "loops", placeholder: "N", usage: "event loops; 0: choose (one for each four processors)",
			value: func(c *Config) value { return count{&c.Loops, 0, 256} }},
		{name: "shutdown-timeout", placeholder: "duration", reload: true, usage: "how long streams may go on after SIGTERM",
			value: func(c *Config) value { return duration{&c.ShutdownTimeout, 0, 366 * day} }},
		{name: "metrics-addr", placeholder: "host:port", usage: "/metrics, /healthz, /readyz and /streams; empty: off",
			value: func(c *Config) value { return text{&c.MetricsAddr} }},
		{name: "pprof-addr", placeholder: "host:port", usage: "/debug/pprof; empty: off",
			value: func(c *Config) value { return text{&c.PprofAddr} }},
		{name: "log-level", placeholder: "level", reload: true, usage: "lowest level that is logged: debug, info, warn, error",
			value: func(c *Config) value { return level{&c.LogLevel} }},
		{name: "log-format", placeholder: "format", reload: true, usage: "format of log lines: text or json",
			value: func(c *Config) value { return choice{&c.LogFormat, []string{"text", "json"}} }},
		{name: "access-log", placeholder: "file", reload: true,
			usage: "one line per stream, written when it ends; - is stdout, SIGUSR1 opens the file again; empty: off",
			value: func(c *Config) value { return text{&c.AccessLog} }},
		{name: "access-log-format", placeholder: "format", reload: true,
			usage: "format of these lines: json, or combined (Apache's, and more)",
			value: func(c *Config) value { return choice{&c.AccessLogFormat, []string{"json", "combined"}} }},
	}},
	{"Trying it out", []setting{
		{name: "front", placeholder: "host:port", usage: "a page to try the daemon with, in place of Apache; empty: off",
			value: func(c *Config) value { return text{&c.Front} }},
	}},
}

// settings is the table without its headings, and byName its index.
var settings, byName = func() (all []*setting, index map[string]*setting) {
	index = map[string]*setting{}
	for _, g := range groups {
		for i := range g.settings {
			s := &g.settings[i]
			all, index[s.name] = append(all, s), s
		}
	}
	return all, index
}()

// listenersKey is the one key of the file that is no setting.
const listenersKey = "listeners"

// envPrefix begins the name of every setting in the environment.
const envPrefix = "STREAMING_DAEMON_"

// upgradePrefix begins what a daemon tells its successor in the environment: no business of ours.
const upgradePrefix = envPrefix + "UPGRADE_"

// env is the setting's name in the environment.
func (s *setting) env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(s.name, "-", "_"))
}

// Names gives the names of all settings, in the order of -h.
func Names() []string {
	var names []string
	for _, s := range settings {
		names = append(names, s.name)
	}
	return names
}
