package openai

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
)

// Secret is a string that does not show itself: printed, logged or encoded it is "[secret]". The value is behind a
// pointer because package fmt, deep within a struct, prints fields without asking their methods.
type Secret struct{ value *string }

const secretShown = "[secret]"

// NewSecret hides value; an empty one makes the zero Secret.
func NewSecret(value string) Secret {
	if value == "" {
		return Secret{}
	}
	return Secret{&value}
}

// Reveal gives the value, for the wire and nothing else.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// IsSet reports whether there is a value.
func (s Secret) IsSet() bool { return s.value != nil }

func (s Secret) String() string {
	if s.value == nil {
		return ""
	}
	return secretShown
}

// Format keeps every verb, %x among them, from printing more than String.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(s.String())) }

// LogValue and MarshalText are String for slog, JSON and the like.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText never fails.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// The environment variables of the API key. There is no flag: command lines are visible to everybody on the machine.
const (
	KeyEnv     = "OPENAI_API_KEY"
	KeyFileEnv = "OPENAI_API_KEY_FILE"
)

// keyMax bounds a key; real ones have up to 200 bytes, signed tokens up to a few thousand.
const keyMax = 16 << 10

// LoadKey reads the API key from the environment variable that env names, or from the file that fileEnv names, whose
// white space at the ends is taken off. Neither set: the zero Secret. Errors never quote a key. It reads a file: call
// it at the start.
func LoadKey(getenv func(string) string, env, fileEnv string) (Secret, error) {
	value, path := getenv(env), getenv(fileEnv)
	if path == "" {
		return checkKey(value, env)
	}
	if value != "" {
		return Secret{}, fmt.Errorf("openai: both %s and %s are set", env, fileEnv)
	}
	return loadKeyFile(path, fileEnv)
}

func loadKeyFile(path, name string) (Secret, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Secret{}, fmt.Errorf("openai: %s: %w", name, err)
	}
	if len(strings.TrimSpace(string(b))) == 0 {
		return Secret{}, fmt.Errorf("openai: %s: %s is empty", name, path)
	}
	return checkKey(strings.TrimSpace(string(b)), name)
}

var errKey = errors.New("the key is too long or has characters that no HTTP header can hold")

func checkKey(value, name string) (Secret, error) {
	ok := len(value) <= keyMax
	for i := range len(value) {
		ok = ok && value[i] > ' ' && value[i] < 0x7f
	}
	if !ok {
		return Secret{}, fmt.Errorf("openai: %s: %w", name, errKey)
	}
	return NewSecret(value), nil
}
