package openai

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"

	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai/upstream"
)

// Options are the settings of the backend. The comment names the flag or the environment variable that it is for; a
// zero field takes the default in its comment.
type Options struct {
	Profile // what a payload gets that names no profile

	Profiles map[string]Profile // -openai-profiles: what payloads may select by `profile`

	ConnectTimeout     time.Duration // -openai-connect-timeout: name, connection, TLS. 5 s
	FirstByteTimeout   time.Duration // -openai-first-byte-timeout: from the start to the body's first byte. 2 min
	IdleTimeout        time.Duration // -openai-idle-timeout: without a byte from the upstream, once it has begun. 1 min
	TotalTimeout       time.Duration // -openai-total-timeout: of one completion. 0: none
	HeadTimeout        time.Duration // -head-timeout: the client gets its head by then, answer or not. 10 s
	MaxUpstreamStreams int           // -max-upstream-streams: completions at a time; past it 503. 0: no limit
	IdleConns          int           // -openai-idle-conns: connections kept per loop; negative: none. 256
	IdleConnTimeout    time.Duration // -openai-idle-conn-timeout: of one that is kept. 30 s

	Log *slog.Logger // must not block; nil: none

	// Each is called on a loop, must not block, and may be nil.
	FirstByte func(d time.Duration) // of the body, since the request began; once per completion that has one
	Ended     func(e End)           // once per completion
}

// Profile is how one upstream is asked. In Options.Profiles, a field that is not set is taken from Options' own; but
// key and headers are only if Base and Socket are as well: a key is not to be sent elsewhere.
type Profile struct {
	Base        string           // -openai-base, OPENAI_API_BASE: up to and with /v1; a query is kept. https://api.openai.com/v1
	Socket      string           // -openai-socket, OPENAI_API_SOCKET: path of a Unix socket to connect to instead
	InsecureTLS bool             // -openai-insecure-tls: certificates are not verified; for tests
	PriorH2     bool             // -openai-h2c: plain HTTP/2 by prior knowledge
	Key         Secret           // OPENAI_API_KEY, OPENAI_API_KEY_FILE
	KeyHeader   string           // -openai-key-header: the field that carries the bare key ("api-key"). Authorization, as Bearer
	Headers     []upstream.Field // -openai-header: added to each request; taken for secret
	Relay       Mode             // -openai-relay: what the client reads. Simple

	Model       string          // -default-model: when the payload has none
	System      string          // when the payload has none; "": no system message
	MaxTokens   json.RawMessage // likewise, and likewise below
	Temperature json.RawMessage
	TopP        json.RawMessage
	Stop        json.RawMessage
	Extra       json.RawMessage // an object; the payload's extra is merged over it
}

// Mode is what the client reads.
type Mode uint8

const (
	ModeUnset Mode = iota // the default profile's, and there Simple
	Simple                // the text, and what else the package's comment names
	Raw                   // the upstream's events as they are
)

// ParseMode reads "simple" or "raw"; "" is ModeUnset.
func ParseMode(s string) (Mode, error) {
	switch s {
	case "":
		return ModeUnset, nil
	case "simple":
		return Simple, nil
	case "raw":
		return Raw, nil
	}
	return ModeUnset, fmt.Errorf("openai: the relay mode is neither simple nor raw: %.40q", s)
}

// DefaultBase is Profile.Base when neither it nor Socket is set.
const DefaultBase = "https://api.openai.com/v1"

// socketBase is Profile.Base when only Socket is set.
const socketBase = "http://localhost/v1"

func (o Options) withDefaults() Options {
	setDefault(&o.ConnectTimeout, 5*time.Second)
	setDefault(&o.FirstByteTimeout, 2*time.Minute)
	setDefault(&o.IdleTimeout, time.Minute)
	setDefault(&o.HeadTimeout, 10*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault(d *time.Duration, to time.Duration) {
	if *d == 0 {
		*d = to
	}
}

// check refuses what cannot work. It says what is wrong by the flag's name.
func (o *Options) check() error {
	for _, d := range []struct {
		flag  string
		value time.Duration
	}{
		{"openai-connect-timeout", o.ConnectTimeout}, {"openai-first-byte-timeout", o.FirstByteTimeout},
		{"openai-idle-timeout", o.IdleTimeout}, {"openai-total-timeout", o.TotalTimeout},
		{"head-timeout", o.HeadTimeout}, {"openai-idle-conn-timeout", o.IdleConnTimeout},
	} {
		if d.value < 0 {
			return fmt.Errorf("openai: -%s is %v: it must be 0 or more", d.flag, d.value)
		}
	}
	if o.MaxUpstreamStreams < 0 {
		return fmt.Errorf("openai: -max-upstream-streams is %d: it must be 0 or more", o.MaxUpstreamStreams)
	}
	return nil
}

// inherit fills what p leaves open from the default profile.
func (p Profile) inherit(from *Profile) Profile {
	if p.Base == "" && p.Socket == "" {
		p.Base, p.Socket, p.InsecureTLS, p.PriorH2 = from.Base, from.Socket, from.InsecureTLS, from.PriorH2
		if !p.Key.IsSet() {
			p.Key, p.KeyHeader = from.Key, from.KeyHeader
		}
		if p.Headers == nil {
			p.Headers = from.Headers
		}
	}
	if p.Model == "" {
		p.Model = from.Model
	}
	if p.System == "" {
		p.System = from.System
	}
	if p.Relay == ModeUnset {
		p.Relay = from.Relay
	}
	for _, v := range []struct{ own, from *json.RawMessage }{
		{&p.MaxTokens, &from.MaxTokens}, {&p.Temperature, &from.Temperature}, {&p.TopP, &from.TopP},
		{&p.Stop, &from.Stop}, {&p.Extra, &from.Extra},
	} {
		if *v.own == nil {
			*v.own = *v.from
		}
	}
	return p
}

// endpoint reads Base and Socket: where to connect to, and the path to ask for. Errors do not quote the base, which may
// hold what was meant for elsewhere.
func (p *Profile) endpoint() (upstream.Target, string, error) {
	base := p.Base
	switch {
	case base == "" && p.Socket != "":
		base = socketBase
	case base == "":
		base = DefaultBase
	}
	u, err := url.Parse(base)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return upstream.Target{}, "", errors.New("openai: the base must be an http or https URL, such as " + DefaultBase)
	case u.User != nil, u.Fragment != "":
		return upstream.Target{}, "", errors.New("openai: the base must have neither a user nor a fragment; the key has its own setting")
	case u.Scheme == "https" && p.Socket != "":
		return upstream.Target{}, "", errors.New("openai: no TLS over a Unix socket: the base must be http")
	}
	to := upstream.Target{TLS: u.Scheme == "https", Host: u.Hostname(), Port: 80, Socket: p.Socket,
		PriorH2: p.PriorH2, InsecureTLS: p.InsecureTLS}
	if to.TLS {
		to.Port, to.PriorH2 = 443, false
	}
	if port := u.Port(); port != "" {
		if to.Port, err = strconv.Atoi(port); err != nil || to.Port < 1 || to.Port > 65535 {
			return upstream.Target{}, "", errors.New("openai: the base's port is not 1 to 65535")
		}
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/") + "/chat/completions"
	if u.RawQuery != "" {
		path += "?" + u.RawQuery
	}
	return to, path, nil
}

// fields gives the header fields of each request.
func (p *Profile) fields() ([]upstream.Field, error) {
	fields := []upstream.Field{
		{Name: "Content-Type", Value: "application/json"},
		{Name: "Accept", Value: "text/event-stream"},
		{Name: "User-Agent", Value: "streaming-daemon-go"},
	}
	if p.Key.IsSet() {
		f := upstream.Field{Name: "Authorization", Value: "Bearer " + p.Key.Reveal(), Secret: true}
		if p.KeyHeader != "" && !strings.EqualFold(p.KeyHeader, f.Name) {
			f.Name, f.Value = p.KeyHeader, p.Key.Reveal()
		}
		fields = append(fields, f)
	}
	for _, f := range p.Headers {
		f.Secret = true
		fields = append(fields, f)
	}
	for _, f := range fields[3:] {
		if err := checkField(f); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

// ownFields are fields of a request that the transport or we write.
var ownFields = [...]string{"Host", "Accept", "Accept-Encoding", "Expect", "Keep-Alive", "Proxy-Connection", "TE", "Trailer",
	"Upgrade", "User-Agent"}

// checkField finds what cannot be sent. The error names the field, never its value.
func checkField(f upstream.Field) error {
	if err := sse.CheckHeader(sse.Header{Name: f.Name, Value: f.Value}); err != nil {
		return fmt.Errorf("openai: -openai-header: %w", err)
	}
	for _, name := range ownFields {
		if strings.EqualFold(name, f.Name) {
			return fmt.Errorf("openai: -openai-header: %w: %q", sse.ErrReservedHeader, f.Name)
		}
	}
	return nil
}
