package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"streaming-daemon-go/cmd/streaming-daemon/config"
)

// The names that users of such daemons know count as well; the daemon's own name is the more definite one, wherever it
// stands, and a flag wins over both.
func TestKnownEnvironment(t *testing.T) {
	for _, tt := range []struct {
		name, known string
	}{{"openai-base", "OPENAI_API_BASE"}, {"openai-socket", "OPENAI_API_SOCKET"}} {
		known, own := tt.known+"=http://known", envName(tt.name)+"=http://own"
		for _, step := range []struct {
			args, environ []string
			value, from   string
		}{
			{nil, []string{known}, "http://known", "environment " + tt.known},
			{nil, []string{known, own}, "http://own", "environment " + envName(tt.name)},
			{nil, []string{own, known}, "http://own", "environment " + envName(tt.name)},
			{[]string{"-" + tt.name, "http://flag"}, []string{own, known}, "http://flag", "flag -" + tt.name},
		} {
			got := printed(t, load(t, step.args, step.environ))[tt.name]
			if got != [2]string{`"` + step.value + `"`, step.from} {
				t.Errorf("%v %v: %v, want %s from %s", step.args, step.environ, got, step.value, step.from)
			}
		}
	}
	if c := load(t, nil, []string{"OPENAI_API_KEY=sk-1", "OPENAI_API_KEY_FILE=/x", "OPENAI_ORG=x"}); len(c.Warnings) > 0 {
		t.Errorf("what is no setting of ours: %q", c.Warnings)
	}
}

// Goal: what can be known to be wrong is refused before the start, in one line by the name of the setting in its
// source, and no line quotes a base, which may have a password in it.
func TestOpenAITogether(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // "": fine
	}{
		{[]string{"-openai-base", "https://api.example/v1?api-version=1"}, ""},
		{[]string{"-openai-base", "http://[::1]:8000/v1", "-openai-h2c"}, ""},
		{[]string{"-openai-socket", "/run/x"}, ""},
		{[]string{"-openai-base", "http://any/v1", "-openai-socket", "/run/x"}, ""},
		{[]string{"-openai-base", "sekret.example/v1"}, "-openai-base must be an http or https URL"},
		{[]string{"-openai-base", "ftp://sekret/v1"}, "-openai-base must be an http or https URL"},
		{[]string{"-openai-base", "http:///sekret"}, "-openai-base must be an http or https URL"},
		{[]string{"-openai-base", "http://sekret:0/v1"}, "-openai-base must be an http or https URL"},
		{[]string{"-openai-base", "http://sekret:65536/v1"}, "-openai-base must be an http or https URL"},
		{[]string{"-openai-base", "http://a\x1b[2Jsekret/v1"}, "-openai-base must be an http or https URL"},
		{[]string{"-openai-base", "https://me:sekret@a/v1"}, "-openai-base must have neither a user"},
		{[]string{"-openai-base", "https://a/v1#sekret"}, "-openai-base must have neither a user"},
		{[]string{"-openai-base", "https://a/v1", "-openai-socket", "/run/x"}, "no TLS over a Unix socket"},
		{[]string{"-openai-base", "https://a/v1", "-openai-h2c"}, "-openai-h2c is for http"},
		{[]string{"-openai-socket", "/" + strings.Repeat("x", 107)}, "-openai-socket is 108 bytes long"},
		{[]string{"-openai-socket", "/" + strings.Repeat("x", 106)}, ""},
		{[]string{"-default-model", strings.Repeat("x", 257)}, "-default-model is 257 bytes long"},
	} {
		_, err := config.Load(tt.args, nil)
		switch {
		case tt.want == "" && err == nil:
		case err == nil, tt.want == "", !strings.Contains(err.Error(), tt.want), strings.Contains(err.Error(), "sekret"),
			strings.ContainsAny(err.Error(), "\n\x1b"):
			t.Errorf("%q: %v, want %q", tt.args, err, tt.want)
		}
	}
	_, err := config.Load(nil, []string{"OPENAI_API_BASE=nonsense"})
	if err == nil || !strings.HasPrefix(err.Error(), "OPENAI_API_BASE must be") {
		t.Errorf("%v", err)
	}
}

// check-config reads the profiles, and takes the variables that they name for set: it is run where the environment of
// the service is not.
func TestCheckProfiles(t *testing.T) {
	profiles := func(content string) string {
		path := filepath.Join(t.TempDir(), "profiles.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := profiles(`{"azure": {"base": "https://a/v1", "api_key_env": "SOME_KEY", "headers": {"X-Team": "7"}}}`)
	if _, err := config.LoadFile(write(t, "openai-profiles: "+good+"\n")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{profiles(`{"a": {"bse": "x"}}`), profiles(`{`), filepath.Join(t.TempDir(), "none")} {
		file := write(t, "openai-profiles: "+bad+"\n")
		_, err := config.LoadFile(file)
		if err == nil || !strings.HasPrefix(err.Error(), file+":1: openai-profiles: ") || !strings.Contains(err.Error(), bad) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", bad, err)
		}
		if _, err := config.Load([]string{"-config", file}, nil); err != nil {
			t.Errorf("it is the start that reads it: %v", err)
		}
	}
	if got, err := config.ReadProfiles(good, func(name string) string { return map[string]string{"SOME_KEY": "k-1"}[name] }); err != nil ||
		got["azure"].Key.Reveal() != "k-1" {
		t.Errorf("%v %v", got, err)
	}
	if _, err := config.ReadProfiles(good, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), "SOME_KEY") {
		t.Errorf("a key that is not there: %v", err)
	}
}
