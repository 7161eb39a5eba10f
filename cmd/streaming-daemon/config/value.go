package config

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// value is a setting's place in a Config, with its text form and its range.
type value interface {
	// parse sets it. The error completes the sentence "it must be"; the place is left as it was.
	parse(text string) error
	// String is the text that parse reads back.
	String() string
}

type text struct{ at *string }

func (v text) String() string { return *v.at }
func (v text) parse(s string) error {
	if strings.IndexByte(s, 0) >= 0 { // the kernel would take what is before it for the whole
		return errors.New("a text without a NUL byte")
	}
	*v.at = s
	return nil
}

type choice struct {
	at *string
	of []string
}

func (v choice) String() string { return *v.at }
func (v choice) parse(s string) error {
	if !slices.Contains(v.of, s) {
		return errors.New(strings.Join(v.of, " or "))
	}
	*v.at = s
	return nil
}

// truth is a flag that may stand alone: -name, or -name=false.
type truth struct{ at *bool }

func (v truth) String() string { return strconv.FormatBool(*v.at) }
func (v truth) parse(s string) error {
	on, err := strconv.ParseBool(s)
	if err != nil {
		return errors.New("true or false")
	}
	*v.at = on
	return nil
}

type count struct {
	at       *int
	min, max int
}

func (v count) String() string { return strconv.Itoa(*v.at) }
func (v count) parse(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return errors.New("a whole number, " + v.span())
	}
	if err != nil || n < v.min || n > v.max {
		return errors.New(v.span())
	}
	*v.at = n
	return nil
}

func (v count) span() string {
	if v.min == 0 {
		return fmt.Sprintf("0 or more, and at most %d", v.max)
	}
	return fmt.Sprintf("at least %d, and at most %d", v.min, v.max)
}

type duration struct {
	at       *time.Duration
	min, max time.Duration
}

func (v duration) String() string { return v.at.String() }
func (v duration) parse(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil {
		return errors.New("a duration with its unit, such as 500ms, 30s or 1h30m, " + v.span())
	}
	if d < v.min || d > v.max {
		return errors.New(v.span())
	}
	*v.at = d
	return nil
}

func (v duration) span() string {
	low := "at least " + v.min.String()
	switch v.min {
	case 0:
		low = "0 or more"
	case 1:
		low = "above 0"
	}
	high := strings.Replace(strings.Replace(v.max.String(), "m0s", "m", 1), "h0m", "h", 1)
	return low + ", and at most " + high
}

// size is a number of bytes.
type size struct {
	at       *int64
	min, max int64
}

// units are the suffixes of a size, the largest first.
var units = []struct {
	suffix string
	bytes  int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}}

func (v size) String() string { return formatSize(*v.at) }

func formatSize(n int64) string {
	for _, u := range units {
		if n >= u.bytes && n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

func (v size) parse(s string) error {
	digits, factor := s, int64(1)
	for _, u := range units {
		if d, ok := strings.CutSuffix(s, u.suffix); ok {
			digits, factor = d, u.bytes
		}
	}
	span := fmt.Sprintf("at least %d, and at most %s", v.min, formatSize(v.max))
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return errors.New("a number of bytes, or of KiB, MiB or GiB, such as 256MiB, " + span)
	}
	if err != nil || n > math.MaxInt64/uint64(factor) || int64(n)*factor < v.min || int64(n)*factor > v.max {
		return errors.New(span)
	}
	*v.at = int64(n) * factor
	return nil
}

type mode struct{ at *fs.FileMode }

func (v mode) String() string { return fmt.Sprintf("%#o", uint32(*v.at)) }
func (v mode) parse(s string) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0o"), 8, 32)
	if err != nil || n > 0o777 {
		return errors.New("permission bits in octal, such as 0660")
	}
	*v.at = fs.FileMode(n)
	return nil
}

type level struct{ at *slog.Level }

func (v level) String() string { return strings.ToLower(v.at.String()) }
func (v level) parse(s string) error {
	var l slog.Level
	if l.UnmarshalText([]byte(s)) != nil {
		return errors.New("one of debug, info, warn, error")
	}
	*v.at = l
	return nil
}
