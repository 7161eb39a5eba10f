package sse_test

import (
	"errors"
	"strings"
	"testing"

	"streaming-daemon-go/sse"
)

func TestCheckHeader(t *testing.T) {
	tests := []struct {
		name string
		h    sse.Header
		want error
	}{
		{"plain", sse.Header{Name: "X-Request-Id", Value: "42"}, nil},
		{"every token character", sse.Header{Name: "!#$%&'*+-.^_`|~09azAZ", Value: "x"}, nil},
		{"empty value", sse.Header{Name: "X-Empty", Value: ""}, nil},
		{"tab in value", sse.Header{Name: "X-Tab", Value: "a\tb"}, nil},
		{"utf-8 and latin-1 in value", sse.Header{Name: "X-Text", Value: "h\u00e9 \xe9\x80"}, nil},
		{"separators in value", sse.Header{Name: "Set-Cookie", Value: `a="b; c", d=(e)`}, nil},
		{"prefix of a reserved name", sse.Header{Name: "Content-Typ", Value: "x"}, nil},
		{"reserved name and more", sse.Header{Name: "Content-Type-Options", Value: "x"}, nil},

		{"no name", sse.Header{Value: "x"}, sse.ErrHeaderName},
		{"space in name", sse.Header{Name: "X Y", Value: "x"}, sse.ErrHeaderName},
		{"colon in name", sse.Header{Name: "X:", Value: "x"}, sse.ErrHeaderName},
		{"space before the colon", sse.Header{Name: "Content-Type ", Value: "x"}, sse.ErrHeaderName},
		{"line end in name", sse.Header{Name: "X\r\nY", Value: "x"}, sse.ErrHeaderName},
		{"nul in name", sse.Header{Name: "X\x00", Value: "x"}, sse.ErrHeaderName},
		{"non-ascii name", sse.Header{Name: "Caf\u00e9", Value: "x"}, sse.ErrHeaderName},

		{"cr in value", sse.Header{Name: "X", Value: "a\rb"}, sse.ErrHeaderValue},
		{"lf in value", sse.Header{Name: "X", Value: "a\nb"}, sse.ErrHeaderValue},
		{"second header in value", sse.Header{Name: "X", Value: "a\r\nSet-Cookie: b"}, sse.ErrHeaderValue},
		{"nul in value", sse.Header{Name: "X", Value: "\x00"}, sse.ErrHeaderValue},
		{"escape in value", sse.Header{Name: "X", Value: "\x1b[0m"}, sse.ErrHeaderValue},
		{"del in value", sse.Header{Name: "X", Value: "a\x7f"}, sse.ErrHeaderValue},
	}
	for _, name := range []string{"Content-Type", "Cache-Control", "Connection", "Transfer-Encoding",
		"Content-Length", "Content-Encoding", "X-Accel-Buffering"} {
		for _, n := range []string{name, strings.ToLower(name), strings.ToUpper(name)} {
			tests = append(tests, struct {
				name string
				h    sse.Header
				want error
			}{"reserved " + n, sse.Header{Name: n, Value: "x"}, sse.ErrReservedHeader})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := sse.CheckHeader(tt.h)
			if !errors.Is(err, tt.want) {
				t.Fatalf("CheckHeader(%q) = %v, want %v", tt.h, err, tt.want)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\r\n\x00\x1b") {
				t.Fatalf("error text %q is not safe to log", err)
			}
		})
	}
}

func TestCheckHeaderErrorText(t *testing.T) {
	long := strings.Repeat("n", 500) + " "
	if got := sse.CheckHeader(sse.Header{Name: long}).Error(); len(got) > 100 {
		t.Errorf("error text has %d bytes", len(got))
	}
	if got := sse.CheckHeader(sse.Header{Name: "X", Value: "secret\n"}).Error(); strings.Contains(got, "secret") {
		t.Errorf("error text %q shows the value", got)
	}
}

// Goal: no field, checked or not, can end its line early. Method: a head with
// the field in it has exactly one line more than one without when CheckHeader
// takes the field, and is the same bytes when it does not.
func FuzzCheckHeader(f *testing.F) {
	f.Add("X-Request-Id", "42")
	f.Add("X", "a\r\nSet-Cookie: b")
	f.Add("X\r\n\r\ndata", "")
	f.Add("cOnTent-lengTh", "0")
	f.Add("X", "\t\x80\xff")
	f.Fuzz(func(t *testing.T, name, value string) {
		h := sse.Header{Name: name, Value: value}
		without := string(sse.AppendHead(nil, nil))
		got := string(sse.AppendHead(nil, []sse.Header{h}))
		if sse.CheckHeader(h) != nil {
			if got != without {
				t.Fatalf("%q was refused and yet sent: %q", h, got)
			}
			return
		}
		if strings.ContainsAny(name+value, "\r\n\x00") {
			t.Fatalf("%q passed", h)
		}
		want := strings.TrimSuffix(without, "\r\n") + name + ": " + value + "\r\n\r\n"
		if got != want {
			t.Fatalf("head is %q, want %q", got, want)
		}
	})
}
