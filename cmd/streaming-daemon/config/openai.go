package config

import (
	"fmt"
	"net/url"
	"os"
	"strconv"

	"streaming-daemon-go/sse"
	"streaming-daemon-go/sse/openai"
)

const (
	socketPathMax = 107 // bytes: sun_path without its NUL, unix(7)
	modelMax      = 256 // bytes; as the backend has it
)

// checkOpenAI looks at the settings of the OpenAI backend, whether it is used or not. No text of it quotes the base: a
// password in it would be shown.
func (c *Config) checkOpenAI(faults *Faults) {
	if base := c.OpenAIBase; base != "" {
		name := c.nameOf("openai-base")
		u, err := url.Parse(base)
		switch {
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "", !validPort(u.Port()):
			faults.add("", "%s must be an http or https URL, such as %s", name, openai.DefaultBase)
		case u.User != nil, u.Fragment != "":
			faults.add("", "%s must have neither a user nor a fragment: the key has its own setting, %s", name, openai.KeyEnv)
		case u.Scheme == "https" && c.OpenAISocket != "":
			faults.add("", "%s is https, and %s is set: no TLS over a Unix socket, the base must be http", name, c.nameOf("openai-socket"))
		case u.Scheme == "https" && c.OpenAIH2C:
			faults.add("", "%s is for http, and %s is https: HTTP/2 is agreed upon by itself there", c.nameOf("openai-h2c"), name)
		}
	}
	if len(c.OpenAISocket) > socketPathMax {
		faults.add("", "%s is %d bytes long: a Unix socket's path has at most %d", c.nameOf("openai-socket"), len(c.OpenAISocket), socketPathMax)
	}
	if len(c.DefaultModel) > modelMax {
		faults.add("", "%s is %d bytes long: it must be at most %d", c.nameOf("default-model"), len(c.DefaultModel), modelMax)
	}
	if name := c.OpenAIKeyHeader; name != "" {
		if err := sse.CheckHeader(sse.Header{Name: name, Value: "x"}); err != nil {
			faults.add("", "%s", mustBe(c.nameOf("openai-key-header"), name, fmt.Errorf("the name of a header field that is free to use, such as api-key")))
		}
	}
}

// validPort judges what url.Parse has found to be digits; none is the scheme's own.
func validPort(port string) bool {
	if port == "" {
		return true
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// checkProfiles reads the file of profiles as the start would, but that the environment does not count: every variable
// that a profile takes its key from is there.
func (c *Config) checkProfiles() (faults Faults) {
	if c.OpenAIProfiles == "" {
		return nil
	}
	if _, err := ReadProfiles(c.OpenAIProfiles, func(string) string { return "set" }); err != nil {
		faults.add("", "%s: %s", c.nameOf("openai-profiles"), printable(err.Error()))
	}
	return faults
}

// ReadProfiles reads a file of profiles, and the files of keys that it names. The error is one line without a secret.
func ReadProfiles(path string, getenv func(string) string) (map[string]openai.Profile, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	profiles, err := openai.ParseProfiles(b, getenv)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", quoteOdd(path), err)
	}
	return profiles, nil
}
