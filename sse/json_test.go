package sse_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"streaming-daemon-go/sse"
)

// viaJSON gives s as a JSON reader sees it after encoding/json wrote it: the
// same text with U+FFFD for what is no UTF-8.
func viaJSON(t *testing.T, s string) string {
	t.Helper()
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back string
	if err := json.Unmarshal(raw, &back); err != nil {
		t.Fatal(err)
	}
	return back
}

func TestAppendJSONString(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"empty", "", `""`},
		{"plain", "hello world", `"hello world"`},
		{"quote and backslash", `a"b\c`, `"a\"b\\c"`},
		{"slash and html stay", `</a>&`, `"</a>&"`},
		{"short escapes", "\b\f\n\r\t", `"\b\f\n\r\t"`},
		{"long escapes", "\x00\x0b\x1f", `"\u0000\u000b\u001f"`},
		{"del stays", "\x7f", "\"\x7f\""},
		{"utf-8 stays", "h\u00e9\u4e16\U0001f600", "\"h\u00e9\u4e16\U0001f600\""},
		{"line separators", "a\u2028b\u2029c", `"a\u2028b\u2029c"`},
		{"their neighbours stay", "\u2027\u202a", "\"\u2027\u202a\""},
		{"a byte each", "a\xff\xfeb", "\"a\uFFFD\uFFFDb\""},
		{"cut rune at the end", "a\xe4\xb8", "\"a\uFFFD\uFFFD\""},
		{"encoded surrogate", "\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\""},
		{"real U+FFFD", "\uFFFD", "\"\uFFFD\""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := sse.AppendJSONString([]byte("x"), tt.in); string(got) != "x"+tt.want {
				t.Errorf("got %q, want %q", got, "x"+tt.want)
			}
		})
	}
}

// Goal: a JSON reader gets from our string what it gets from encoding/json's,
// and the bytes are safe on a data line. The reader must not do the repair: the
// bytes are checked to be valid UTF-8 before it sees them.
func FuzzAppendJSONString(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00\x1f\x7f\"\\/", "\xff\xc0\x80", "\xed\xa0\x80", "\u2028\u2029\uFFFD", "\xe4\xb8\n\xad"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := string(sse.AppendJSONString(nil, s))
		if !utf8.ValidString(got) {
			t.Fatalf("%q gave invalid UTF-8 %q", s, got)
		}
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == '\u2028' || r == '\u2029' }) {
			t.Fatalf("%q gave %q, with a raw control character or line separator", s, got)
		}
		var back string
		if err := json.Unmarshal([]byte(got), &back); err != nil {
			t.Fatalf("%q gave %q: %v", s, got, err)
		}
		if want := viaJSON(t, s); back != want {
			t.Fatalf("%q came back as %q, want %q", s, back, want)
		}
	})
}
