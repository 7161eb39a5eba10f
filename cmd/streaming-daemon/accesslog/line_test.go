package accesslog_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/accesslog"
)

var entry = accesslog.Entry{
	Start:  time.Date(2026, 11, 23, 3, 38, 52, 123_456_789, time.FixedZone("", -5400)),
	Client: netip.MustParseAddrPort("203.0.113.9:51234"), UserID: "7", RequestID: "r-1", Backend: "demo", Listener: "seqpacket",
	Status: 200, Bytes: 4096, Events: 18, FirstByte: 1234567 * time.Nanosecond, Duration: 2500 * time.Millisecond, End: "complete",
}

func TestJSON(t *testing.T) {
	const want = `{"time":"2026-11-23T05:08:52.123Z","client":"203.0.113.9","client_port":51234,"user_id":"7","request_id":"r-1",` +
		`"backend":"demo","listener":"seqpacket","status":200,"bytes":4096,"events":18,"first_byte_seconds":0.001235,` +
		`"duration_seconds":2.500000,"end":"complete","error":""}` + "\n"
	if got := string(accesslog.JSON.Append(nil, &entry)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	const empty = `{"time":"0001-01-01T00:00:00.000Z","client":"","client_port":0,"user_id":"","request_id":"","backend":"","listener":"",` +
		`"status":0,"bytes":0,"events":0,"first_byte_seconds":null,"duration_seconds":0.000000,"end":"","error":""}` + "\n"
	if got := string(accesslog.JSON.Append(nil, &accesslog.Entry{})); got != empty {
		t.Errorf("got\n%swant\n%s", got, empty)
	}
}

// The upstream's part is there when an upstream has answered.
func TestUpstream(t *testing.T) {
	e := entry
	e.UpstreamStatus, e.UpstreamFirstByte, e.UpstreamDuration = 200, 1500*time.Microsecond, 0
	for format, want := range map[accesslog.Format]string{
		accesslog.JSON:     `,"error":"","upstream_status":200,"upstream_first_byte_seconds":0.001500,"upstream_seconds":null}` + "\n",
		accesslog.Combined: ` error="" upstream_status=200 upstream_first_byte=0.001500 upstream=-` + "\n",
	} {
		if got := string(format.Append(nil, &e)); !strings.HasSuffix(got, want) {
			t.Errorf("got %s, want it to end in %s", got, want)
		}
	}
}

func TestCombined(t *testing.T) {
	const want = `203.0.113.9 - 7 [23/Nov/2026:03:38:52 -0130] "-" 200 4096 "-" "-" request_id="r-1" backend=demo listener=seqpacket ` +
		`events=18 first_byte=0.001235 duration=2.500000 end=complete error=""` + "\n"
	if got := string(accesslog.Combined.Append(nil, &entry)); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	const empty = `- - - [01/Jan/0001:00:00:00 +0000] "-" - 0 "-" "-" request_id="" backend=- listener=- events=0 first_byte=- ` +
		`duration=0.000000 end=- error=""` + "\n"
	if got := string(accesslog.Combined.Append(nil, &accesslog.Entry{})); got != empty {
		t.Errorf("got\n%swant\n%s", got, empty)
	}
}

// combined is how parsers take a line of Apache's combined format apart, with whatever follows.
var combined = regexp.MustCompile(`^(\S+) (\S+) (\S+) \[([^\]]+)\] "((?:[^"\\]|\\.)*)" (\S+) (\S+) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" ` +
	`request_id="((?:[^"\\]|\\.)*)" backend=(\S+) listener=(\S+) events=(\d+) first_byte=(\S+) duration=(\S+) end=(\S+) error="((?:[^"\\]|\\.)*)"\n$`)

// Goal: whoever chooses user_id and request_id can neither begin a line, nor move a field, nor command a terminal.
// Method: each hostile text in both formats; the line is taken apart, and what is not that text must be as ever.
func TestHostileText(t *testing.T) {
	for _, bad := range []string{
		"1\n203.0.113.1 - admin [23/Nov/2026:03:38:52 +0000] \"GET /\" 200 1 \"-\" \"-\"", `x" 500 1 "-" "-" end=complete error="`,
		`7 [23/Nov/2026:03:38:52 +0000] "-" 200 1`, `\`, `\"`, "\x1b]0;title\x07", "\x1b[2J", "a\r\nb", "\u009b2J", "\u202e", "\x00", "\x7f", "\t", "\xff\xfe",
		`","end":"complete`, "é 😀", strings.Repeat("\n", 256),
	} {
		e := entry
		e.UserID, e.RequestID, e.Error, e.End = bad, bad, bad, "client_gone"
		line := accesslog.JSON.Append(nil, &e)
		var v map[string]any
		if err := json.Unmarshal(line, &v); err != nil || len(v) != 14 {
			t.Fatalf("%q: %v, %d fields in %s", bad, err, len(v), line)
		}
		want := string([]rune(bad))
		if v["user_id"] != want || v["request_id"] != want || v["error"] != want || v["end"] != "client_gone" || v["status"] != 200.0 {
			t.Errorf("%q in %s", bad, line)
		}
		text := accesslog.Combined.Append(nil, &e)
		m := combined.FindSubmatch(text)
		if m == nil || string(m[6]) != "200" || string(m[16]) != "client_gone" || string(m[1]) != "203.0.113.9" {
			t.Errorf("%q in %s", bad, text)
		}
		for _, b := range [][]byte{line, text} {
			if bytes.Count(b, []byte("\n")) != 1 || bytes.ContainsAny(b, "\x00\x07\x1b\x7f\r\t\u009b\u202e") {
				t.Errorf("%q came through: %q", bad, b)
			}
		}
	}
	// IPv6, and an address with a zone, which is a name of this machine's interface.
	e := entry
	e.Client = netip.MustParseAddrPort("[2001:db8::1]:80")
	if got := string(accesslog.Combined.Append(nil, &e)); !strings.HasPrefix(got, "2001:db8::1 - 7 ") {
		t.Error(got)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, f := range []accesslog.Format{accesslog.JSON, accesslog.Combined} {
		b.Run(fmt.Sprint(f), func(b *testing.B) {
			b.ReportAllocs()
			var dst []byte
			for b.Loop() {
				dst = f.Append(dst[:0], &entry)
			}
		})
	}
}
