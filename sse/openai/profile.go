package openai

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"streaming-daemon-go/sse/openai/upstream"
	"streaming-daemon-go/sse/stream"
)

// profileFile is a profile as a file describes it. Keys are named, not written, so that the file is no secret.
type profileFile struct {
	Base        string            `json:"base"`
	Socket      string            `json:"socket"`
	InsecureTLS bool              `json:"insecure_tls"`
	H2C         bool              `json:"h2c"`
	KeyEnv      string            `json:"api_key_env"`  // the name of an environment variable
	KeyFile     string            `json:"api_key_file"` // the path of a file
	KeyHeader   string            `json:"key_header"`
	Headers     map[string]string `json:"headers"`
	Relay       string            `json:"relay"` // "simple" or "raw"
	Model       string            `json:"model"`
	System      string            `json:"system"`
	MaxTokens   json.RawMessage   `json:"max_tokens"`
	Temperature json.RawMessage   `json:"temperature"`
	TopP        json.RawMessage   `json:"top_p"`
	Stop        json.RawMessage   `json:"stop"`
	Extra       json.RawMessage   `json:"extra"`
}

// ParseProfiles reads the profiles of a file (-openai-profiles), a JSON object by name:
//
//	{"fast":  {"model": "gpt-4o-mini", "max_tokens": 500},
//	 "local": {"socket": "/run/llama.sock", "model": "llama", "relay": "raw"},
//	 "azure": {"base": "https://x.example/openai/deployments/d?api-version=2024-10-21",
//	           "api_key_env": "AZURE_KEY", "key_header": "api-key"}}
//
// It reads the files that the profiles name: call it at the start. A field that it does not know is an error.
func ParseProfiles(b []byte, getenv func(string) string) (map[string]Profile, error) {
	var files map[string]profileFile
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&files); err != nil {
		return nil, fmt.Errorf("openai: profiles: %w", err)
	}
	profiles := make(map[string]Profile, len(files))
	for name, f := range files {
		p, err := f.profile(getenv)
		if err != nil {
			return nil, fmt.Errorf("openai: profile %q: %w", name, err)
		}
		profiles[name] = p
	}
	return profiles, nil
}

func (f *profileFile) profile(getenv func(string) string) (Profile, error) {
	p := Profile{
		Base: f.Base, Socket: f.Socket, InsecureTLS: f.InsecureTLS, PriorH2: f.H2C, KeyHeader: f.KeyHeader,
		Model: f.Model, System: f.System,
		MaxTokens: f.MaxTokens, Temperature: f.Temperature, TopP: f.TopP, Stop: f.Stop, Extra: f.Extra,
	}
	var err error
	if p.Relay, err = ParseMode(f.Relay); err != nil {
		return Profile{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Headers)) {
		p.Headers = append(p.Headers, upstream.Field{Name: name, Value: f.Headers[name], Secret: true})
	}
	switch {
	case f.KeyEnv != "" && f.KeyFile != "":
		err = fmt.Errorf("both api_key_env and api_key_file are set")
	case f.KeyEnv != "":
		if p.Key, err = checkKey(getenv(f.KeyEnv), f.KeyEnv); err == nil && !p.Key.IsSet() {
			err = fmt.Errorf("the environment variable %s is not set", f.KeyEnv)
		}
	case f.KeyFile != "":
		p.Key, err = loadKeyFile(f.KeyFile, "api_key_file")
	}
	return p, err
}

// profile is a Profile made ready. Immutable, but for what its transport keeps to itself.
type profile struct {
	transport upstream.Transport
	path      string
	fields    []upstream.Field
	relay     Mode
	model     string
	system    string
	settings  members
}

// prepare checks a profile and makes it ready but for its transport, which goes to the target.
func (p *Profile) prepare() (*profile, upstream.Target, error) {
	to, path, err := p.endpoint()
	if err != nil {
		return nil, to, err
	}
	fields, err := p.fields()
	if err != nil {
		return nil, to, err
	}
	ready := &profile{path: path, fields: fields, relay: p.Relay, model: p.Model, system: p.System}
	if len(p.Model) > modelMax {
		return nil, to, fmt.Errorf("openai: the model's name is longer than %d bytes", modelMax)
	}
	if len(p.Extra) > 0 {
		if !json.Valid(p.Extra) {
			return nil, to, fmt.Errorf("openai: extra is not JSON")
		}
		if err := ready.settings.merge(notNull(bytes.TrimSpace(p.Extra))); err != nil {
			return nil, to, settingError(err)
		}
	}
	set := asked{maxTokens: p.MaxTokens, temperature: p.Temperature, topP: p.TopP, stop: p.Stop}
	for _, v := range []*[]byte{&set.maxTokens, &set.temperature, &set.topP, &set.stop} {
		if *v = notNull(bytes.TrimSpace(*v)); len(*v) == 0 {
			*v = nil
		} else if !json.Valid(*v) {
			return nil, to, fmt.Errorf("openai: a setting is not JSON")
		}
	}
	if err := ready.settings.add(&set); err != nil {
		return nil, to, settingError(err)
	}
	return ready, to, nil
}

// settingError is for whoever runs the daemon what a refusal is for a client.
func settingError(err error) error {
	var r *stream.Refusal
	if errors.As(err, &r) {
		return errors.New("openai: " + r.Message)
	}
	return err
}
