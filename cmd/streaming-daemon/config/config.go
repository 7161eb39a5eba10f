package config

import (
	"io/fs"
	"log/slog"
	"time"

	"streaming-daemon-go/fdrecv"
)

// Config is every setting. One that Load gave is read-only; any goroutine may read it.
type Config struct {
	Socket, SeqpacketSocket, FDPassSocket string // empty: off
	SocketMode                            fs.FileMode
	SocketOwner, SocketGroup              string // name or number; empty: as the kernel makes it
	HandoffTimeout                        time.Duration

	MaxConnections    int
	Reject            string // http or sse
	HeartbeatInterval time.Duration
	WriteTimeout      time.Duration
	MaxStreamDuration time.Duration
	MaxPendingBytes   int64

	Backend      string
	DemoDelay    time.Duration
	DemoMessages int

	// Of the OpenAI backend. Its key is no setting: package openai reads it, and nothing here may show it.
	OpenAIBase             string // as given; "": the backend's own
	OpenAISocket           string
	OpenAIKeyHeader        string
	OpenAIProfiles         string // path
	DefaultModel           string
	OpenAIRelay            string // simple or raw
	HeadTimeout            time.Duration
	OpenAIConnectTimeout   time.Duration
	OpenAIFirstByteTimeout time.Duration
	OpenAIIdleTimeout      time.Duration
	OpenAITotalTimeout     time.Duration // 0: none
	MaxUpstreamStreams     int           // 0: no limit
	OpenAIIdleConns        int           // per loop and upstream
	OpenAIIdleConnTimeout  time.Duration
	OpenAIH2C              bool
	OpenAIInsecureTLS      bool

	File                   string // -config
	Loops                  int
	ShutdownTimeout        time.Duration
	MetricsAddr, PprofAddr string
	LogLevel               slog.Level
	LogFormat              string // text or json
	AccessLog              string // path, "-" for stdout, empty: off
	AccessLogFormat        string // json or combined
	Front                  string
	Version                bool       // -version was given: print it and do nothing else
	Listeners              []Listener // every handoff socket that is on: those of the flags, then those of the file
	Warnings               []string   // what Load found odd and let pass, each one line

	sources map[string]source // by name of the setting
	own     []fileListener    // what the file lists
}

// Listener is a handoff socket.
type Listener struct {
	Name      string // what set it, for messages: "-socket", "FILE:7: listeners[0]"
	Path      string
	Kind      fdrecv.Kind
	Mode      fs.FileMode
	UID, GID  *uint32        // nil: as the kernel makes it
	AllowUIDs []uint32       // with AllowGIDs: who may hand over; both empty: whom the mode lets in
	AllowGIDs []uint32       //
	Backend   string         // of its streams
	Payload   fdrecv.Payload // of handoffs that bring none
}

// Backends are the names that -backend and a listener's defaults may have.
var Backends = []string{"demo", "openai"}

// defaults is the Config of an empty command line, file and environment.
func defaults() *Config {
	return &Config{
		Socket:            "/var/run/streaming-daemon.sock",
		SeqpacketSocket:   "/var/run/streaming-daemon.seqpacket.sock",
		SocketMode:        0o660,
		HandoffTimeout:    5 * time.Second,
		MaxConnections:    50000,
		Reject:            "http",
		HeartbeatInterval: 15 * time.Second,
		WriteTimeout:      30 * time.Second,
		MaxPendingBytes:   256 << 20,
		Backend:           "demo",
		DemoDelay:         50 * time.Millisecond,
		ShutdownTimeout:   2 * time.Minute,
		MetricsAddr:       "127.0.0.1:9090",
		LogLevel:          slog.LevelInfo,
		LogFormat:         "text",
		AccessLogFormat:   "json",

		OpenAIRelay:            "simple",
		HeadTimeout:            10 * time.Second,
		OpenAIConnectTimeout:   5 * time.Second,
		OpenAIFirstByteTimeout: 2 * time.Minute,
		OpenAIIdleTimeout:      time.Minute,
		OpenAIIdleConns:        256,
		OpenAIIdleConnTimeout:  30 * time.Second,

		sources: map[string]source{},
	}
}
