package escape_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"streaming-daemon-go/cmd/streaming-daemon/escape"
)

// hostile is what somebody who wants to forge a line or command a terminal would put into a payload.
const hostile = "a\"b\\c\nd\re\tf\x00\x07\b\v\x1b[31m\x7f\u009b31m\u202e\u2028\U000E0001é€😀\xff"

func TestAppendJSON(t *testing.T) {
	const want = `"a\"b\\c\nd\re\tf\u0000\u0007\u0008\u000b\u001b[31m\u007f\u009b31m\u202e\u2028\udb40\udc01é€😀` + "�" + `"`
	if got := string(escape.AppendJSON([]byte("x"), hostile)); got != "x"+want {
		t.Errorf("%s, want x%s", got, want)
	}
}

// What Apache 2.4 writes for the same bytes (server/util.c, ap_escape_logitem).
func TestAppendApache(t *testing.T) {
	const want = `a\"b\\c\nd\re\tf\x00\x07\b\v\x1b[31m\x7f\xc2\x9b31m\xe2\x80\xae\xe2\x80\xa8\xf3\xa0\x80\x81\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff`
	if got := string(escape.AppendApache(nil, hostile, 0)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := string(escape.AppendApache(nil, "a b", ' ')); got != `a\x20b` {
		t.Errorf("%s", got)
	}
}

// clean reports whether b has nothing that a terminal would obey.
func clean(b []byte) bool {
	return utf8.Valid(b) && bytes.IndexFunc(b, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// Whatever the bytes are, the JSON form is clean and reads back as the same text, and the Apache form is printable ASCII
// in which a quote or a space has something in front of it.
func FuzzEscape(f *testing.F) {
	f.Add(hostile)
	f.Add("\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		b := escape.AppendJSON(nil, s)
		var back string
		if err := json.Unmarshal(b, &back); err != nil || back != string([]rune(s)) {
			t.Errorf("%q came back as %q, %v", s, back, err)
		}
		if !clean(b) {
			t.Errorf("%q is not clean", b)
		}
		a := escape.AppendApache(nil, s, ' ')
		for i, c := range a {
			if c <= ' ' || c > '~' || c == '"' && (i == 0 || a[i-1] != '\\') {
				t.Errorf("%q has %q", a, c)
			}
		}
	})
}

// Lines that slog has encoded come through clean, and mean the same.
func TestJSONWriter(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(escape.JSONWriter{To: &out}, nil))
	for _, s := range []string{"plain", hostile} {
		out.Reset()
		log.Info("m", "id", s)
		line, rest, _ := bytes.Cut(out.Bytes(), []byte("\n"))
		if len(rest) > 0 || !clean(line) {
			t.Errorf("not one clean line: %q", out.Bytes())
		}
		var v struct{ ID string }
		if err := json.Unmarshal(line, &v); err != nil || v.ID != strings.ToValidUTF8(s, "\uFFFD") {
			t.Errorf("%q came back as %q, %v", s, v.ID, err)
		}
	}
}
