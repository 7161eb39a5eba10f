package config_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"streaming-daemon-go/cmd/streaming-daemon/config"
	"streaming-daemon-go/fdrecv"
)

// write makes a file of settings.
func write(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sd.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, args, environ []string) *config.Config {
	t.Helper()
	c, err := config.Load(args, environ)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// printed gives what Print says of each setting: its value and the source.
func printed(t testing.TB, c *config.Config) map[string][2]string {
	t.Helper()
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	all := map[string][2]string{}
	for line := range strings.Lines(b.String()) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "# "), ": ")
		value, from, ok2 := strings.Cut(rest, " # ")
		if ok && ok2 && !strings.HasPrefix(line, " ") {
			all[name] = [2]string{strings.TrimSpace(value), strings.TrimSpace(from)}
		}
	}
	return all
}

// other is a value of each setting that is not its default, one for each of three sources.
var other = map[string][3]string{
	"socket": {"/a", "/b", "/c"}, "seqpacket-socket": {"/d", "/e", "/f"}, "fdpass-socket": {"/g", "/h", "/i"},
	"socket-mode": {"0600", "0666", "0606"}, "socket-owner": {"1", "2", "3"}, "socket-group": {"4", "5", "6"},
	"handoff-timeout": {"1s", "2s", "3s"}, "max-connections": {"1", "2", "3"}, "reject": {"sse", "sse", "sse"},
	"heartbeat-interval": {"1s", "2s", "3s"}, "write-timeout": {"1s", "2s", "3s"}, "max-stream-duration": {"1s", "2s", "3s"},
	"max-pending-bytes": {"1MiB", "2MiB", "3GiB"}, "backend": {"demo", "demo", "demo"}, "demo-delay": {"1s", "2s", "3s"},
	"demo-messages": {"1", "2", "3"}, "loops": {"1", "2", "3"}, "shutdown-timeout": {"1s", "2s", "3s"},
	"metrics-addr": {"a:1", "b:2", "c:3"}, "pprof-addr": {"a:4", "b:5", "c:6"}, "log-level": {"debug", "warn", "error"},
	"log-format": {"json", "json", "json"}, "access-log": {"/j", "/k", "-"}, "access-log-format": {"combined", "combined", "combined"},
	"front": {"a:7", "b:8", "c:9"}, "openai-base": {"http://a/v1", "http://b/v1", "http://c:1/v1"}, "openai-socket": {"/m", "/n", "/o"},
	"openai-key-header": {"a-key", "b-key", "c-key"}, "openai-profiles": {"/p", "/q", "/r"}, "default-model": {"a", "b", "c"},
	"openai-relay": {"raw", "raw", "raw"}, "head-timeout": {"1s", "2s", "3s"}, "openai-connect-timeout": {"1s", "2s", "3s"},
	"openai-first-byte-timeout": {"1s", "2s", "3s"}, "openai-idle-timeout": {"1s", "2s", "3s"}, "openai-total-timeout": {"1s", "2s", "3s"},
	"max-upstream-streams": {"1", "2", "3"}, "openai-idle-conns": {"1", "2", "3"}, "openai-idle-conn-timeout": {"1s", "2s", "3s"},
	"openai-h2c": {"true", "true", "true"}, "openai-insecure-tls": {"true", "true", "true"},
}

func envName(name string) string {
	return "STREAMING_DAEMON_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// Goal: for every setting, a flag wins over the environment, that over the file, that over the default, and each is
// shown with where it comes from. Method: a value of its own from each source; one more source at each step.
func TestPriority(t *testing.T) {
	for _, name := range config.Names() {
		if name == "config" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			values, ok := other[name]
			if !ok {
				t.Fatal("no values to try it with")
			}
			path := write(t, "# the first line\n"+name+": "+values[0]+"\n")
			args := []string{"-config", path}
			environ := []string{envName(name) + "=" + values[1], "PATH=/bin"}
			for _, step := range []struct {
				args, environ []string
				value, from   string
			}{
				{nil, nil, "", "default"},
				{args, nil, values[0], path + ":2"},
				{args, environ, values[1], "environment " + envName(name)},
				{append(args, "-"+name+"=0", "-"+name+"="+values[2]), environ, values[2], "flag -" + name},
			} {
				if name == "socket" && step.from == "default" || len(step.args) == 4 && step.args[2] == "-"+name+"=0" {
					// "0" is a first occurrence that the second one replaces: for most settings no value of theirs.
					step.args = append(slices.Clone(step.args[:min(2, len(step.args))]), step.args[min(3, len(step.args)):]...)
				}
				got := printed(t, load(t, step.args, step.environ))[name]
				if value := strings.Trim(got[0], `"`); step.value != "" && value != step.value {
					t.Errorf("%s from %s, want %s from %s", got[0], got[1], step.value, step.from)
				}
				if got[1] != step.from {
					t.Errorf("from %q, want %q", got[1], step.from)
				}
			}
		})
	}
}

// The file may be named by the environment; of a flag that comes twice the last one counts.
func TestWhereTheFileIs(t *testing.T) {
	a, b := write(t, "max-connections: 7\n"), write(t, "max-connections: 8\n")
	if c := load(t, nil, []string{"STREAMING_DAEMON_CONFIG=" + a}); c.MaxConnections != 7 || c.File != a {
		t.Errorf("%d from %s", c.MaxConnections, c.File)
	}
	if c := load(t, []string{"-config", b}, []string{"STREAMING_DAEMON_CONFIG=" + a}); c.MaxConnections != 8 {
		t.Errorf("%d", c.MaxConnections)
	}
	if c := load(t, []string{"-loops", "3", "-loops", "4"}, nil); c.Loops != 4 {
		t.Errorf("%d loops", c.Loops)
	}
	_, err := config.Load([]string{"-config", a + ".none"}, nil)
	if err == nil || !strings.Contains(err.Error(), a+".none") {
		t.Errorf("a file that is not there: %v", err)
	}
}

// What is no setting of the environment may be somebody else's: a warning with the nearest name, no refusal.
func TestUnknownEnvironment(t *testing.T) {
	c := load(t, nil, []string{"STREAMING_DAEMON_MAX_CONECTIONS=5", "STREAMING=x", "STREAMING_DAEMON_UPGRADE_FD=3"})
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], `"STREAMING_DAEMON_MAX_CONECTIONS": did you mean STREAMING_DAEMON_MAX_CONNECTIONS?`) {
		t.Errorf("warnings %q", c.Warnings)
	}
	if c.MaxConnections != 50000 {
		t.Errorf("max-connections %d", c.MaxConnections)
	}
}

// Goal: every value out of its range, or of another type, is refused with the name as its source calls it, the value
// and the range. Method: each value comes by flag, by environment and by file.
func TestRanges(t *testing.T) {
	for _, tt := range []struct {
		name string
		bad  []string
		want string // what it must be
	}{
		{"socket-mode", []string{"", "9", "rw", "01000", "-1"}, "permission bits in octal"},
		{"socket-owner", []string{"no-such-user-here", "-1", "4294967295"}, ""},
		{"socket-group", []string{"no-such-group-here", "-1", "4294967296"}, ""},
		{"handoff-timeout", []string{"0", "-1s", "5", "x", "11m", ""}, "above 0, and at most 10m"},
		{"max-connections", []string{"0", "-1", "1e3", "many", "10000001", "99999999999999999999", "", "1_000"}, "at least 1, and at most 10000000"},
		{"reject", []string{"", "HTTP", "rudely"}, "http or sse"},
		{"heartbeat-interval", []string{"-1ms", "25h", "15"}, "0 or more, and at most 24h"},
		{"write-timeout", []string{"0", "999us", "25h"}, "at least 1ms, and at most 24h"},
		{"max-stream-duration", []string{"-1s", "9000h"}, "0 or more, and at most 8784h"},
		{"max-pending-bytes", []string{"65535", "63KiB", "-1", "1.5MiB", "1MB", "x", "", "1025GiB", "9223372036854775807", "99999999999999999999",
			"9007199254740993KiB"}, "at least 65536, and at most 1024GiB"},
		{"backend", []string{"", "nope"}, "demo or openai"},
		{"demo-delay", []string{"-1s", "25h"}, "0 or more"},
		{"demo-messages", []string{"-1", "2147483648"}, "0 or more, and at most 2147483647"},
		{"loops", []string{"-1", "257", "two"}, "0 or more, and at most 256"},
		{"shutdown-timeout", []string{"-1s", "9000h"}, "0 or more"},
		{"log-level", []string{"", "loud"}, "one of debug, info, warn, error"},
		{"log-format", []string{"", "xml"}, "text or json"},
		{"access-log-format", []string{"", "common"}, "json or combined"},
		{"metrics-addr", []string{"a\x00b"}, "without a NUL byte"},
		{"openai-relay", []string{"", "both"}, "simple or raw"},
		{"head-timeout", []string{"0", "61m", "10"}, "at least 1ms, and at most 1h"},
		{"openai-connect-timeout", []string{"0", "11m"}, "at least 1ms, and at most 10m"},
		{"openai-first-byte-timeout", []string{"0", "25h"}, "at least 1ms, and at most 24h"},
		{"openai-idle-timeout", []string{"0", "25h"}, "at least 1ms, and at most 24h"},
		{"openai-total-timeout", []string{"-1s", "9000h"}, "0 or more, and at most 8784h"},
		{"max-upstream-streams", []string{"-1", "10000001"}, "0 or more, and at most 10000000"},
		{"openai-idle-conns", []string{"-1", "100001"}, "0 or more, and at most 100000"},
		{"openai-idle-conn-timeout", []string{"0", "25h"}, "at least 1ms, and at most 24h"},
		{"openai-h2c", []string{"", "yes", "2"}, "true or false"},
		{"openai-insecure-tls", []string{"", "no"}, "true or false"},
		{"openai-key-header", []string{"a b", "Connection", "Ärger"}, "the name of a header field"},
	} {
		for _, bad := range tt.bad {
			check := func(where string, err error, names ...string) {
				t.Helper()
				var faults config.Faults
				if !errors.As(err, &faults) || len(faults) != 1 {
					t.Errorf("%s %q by %s: %v, want one fault", tt.name, bad, where, err)
					return
				}
				text := err.Error()
				if tt.want != "" {
					names = append(names, tt.want, fmt.Sprintf("is %q: it must be ", bad))
				}
				for _, want := range names {
					if !strings.Contains(text, want) {
						t.Errorf("%s %q by %s: %q is not in %q", tt.name, bad, where, want, text)
					}
				}
				if strings.ContainsAny(text, "\n\x00") {
					t.Errorf("not one clean line: %q", text)
				}
			}
			_, err := config.Load([]string{"-" + tt.name + "=" + bad}, nil)
			check("flag", err, "-"+tt.name)
			_, err = config.Load(nil, []string{envName(tt.name) + "=" + bad})
			check("environment", err, envName(tt.name))
			if strings.Contains(bad, "\x00") {
				continue // YAML has no such character
			}
			path := write(t, "# x\n"+tt.name+": \""+bad+"\"\n")
			_, err = config.Load([]string{"-config", path}, nil)
			check("file", err, path+":2", tt.name)
		}
	}
}

// The text of each value is read back as the same value, and each has one at all: Reload and Print rest on that.
func TestTextFormsAreStable(t *testing.T) {
	for name, values := range other {
		for _, v := range values {
			first := printed(t, load(t, []string{"-" + name + "=" + v}, nil))[name][0]
			again := printed(t, load(t, []string{"-" + name + "=" + strings.Trim(first, `"`)}, nil))[name][0]
			if first != again {
				t.Errorf("%s %s: %s, then %s", name, v, first, again)
			}
		}
	}
	for text, want := range map[string]int64{"65536": 1 << 16, "64KiB": 1 << 16, "3MiB": 3 << 20, "1GiB": 1 << 30, "100001": 100001} {
		if c := load(t, []string{"-max-pending-bytes", text}, nil); c.MaxPendingBytes != want {
			t.Errorf("%s is %d, want %d", text, c.MaxPendingBytes, want)
		}
	}
}

// What Print prints is a file that brings the same settings about.
func TestPrintIsAFile(t *testing.T) {
	path := write(t, full)
	c := load(t, []string{"-config", path, "-metrics-addr", "127.0.0.1:1", "-access-log", "/tmp/\u202e\x7f\u009b \"x\" #.log"}, nil)
	var b bytes.Buffer
	if err := c.Print(&b); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\u202e\x7f\u009b") {
		t.Errorf("a terminal would obey:\n%q", b.String())
	}
	again, err := config.LoadFile(write(t, b.String()))
	if err != nil {
		t.Fatalf("%v in\n%s", err, &b)
	}
	if next, changed, restart := config.Reload(c, again); len(changed) > 0 || !slices.Equal(restart, []string{"config"}) {
		t.Errorf("changed %v, restart %v in\n%s", changed, restart, &b)
	} else if len(next.Listeners) != len(again.Listeners) {
		t.Errorf("%d listeners, want %d", len(again.Listeners), len(next.Listeners))
	}
	for i, l := range again.Listeners {
		was := c.Listeners[i]
		l.Name, was.Name = "", ""
		if !reflect.DeepEqual(l, was) {
			t.Errorf("listener %d: %+v, was %+v", i, l, was)
		}
	}
}

// Reload takes what can change at once and names the rest; a setting that goes back to what runs is no change.
func TestReload(t *testing.T) {
	path := write(t, "max-connections: 5\nloops: 2\nfdpass-socket: /x\nlisteners:\n- {path: /l, type: stream}\n")
	running := load(t, []string{"-config", path, "-log-level", "warn"}, nil)
	if next, changed, restart := config.Reload(running, load(t, []string{"-config", path, "-log-level", "warn"}, nil)); len(changed)+len(restart) != 0 ||
		next.MaxConnections != 5 {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
	if err := os.WriteFile(path, []byte("# one more line\nmax-connections: 6\nwrite-timeout: 9s\nloops: 3\nfdpass-socket: /y\nlog-level: debug\nlisteners:\n- {path: /m, type: stream}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	next, changed, restart := config.Reload(running, load(t, []string{"-config", path, "-log-level", "warn"}, nil))
	if !slices.Equal(changed, []string{"max-connections", "write-timeout"}) || !slices.Equal(restart, []string{"fdpass-socket", "loops", "listeners"}) {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
	if next.MaxConnections != 6 || next.WriteTimeout != 9*time.Second || next.Loops != 2 || next.FDPassSocket != "/x" ||
		len(next.Listeners) != 2 || next.Listeners[1].Path != "/l" {
		t.Errorf("%+v", next)
	}
	if from := printed(t, next)["max-connections"][1]; from != path+":2" {
		t.Errorf("max-connections from %s", from)
	}
	// Asked again, what still waits for a restart is named again, and nothing else.
	if _, changed, restart = config.Reload(next, load(t, []string{"-config", path, "-log-level", "warn"}, nil)); len(changed) != 0 || len(restart) != 3 {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
}

// A line above a list moves it and changes nothing.
func TestReloadIgnoresPlaces(t *testing.T) {
	path := write(t, full)
	running := load(t, []string{"-config", path}, nil)
	if err := os.WriteFile(path, []byte("# moved\n\n"+full), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, changed, restart := config.Reload(running, load(t, []string{"-config", path}, nil)); len(changed)+len(restart) > 0 {
		t.Errorf("changed %v, restart %v", changed, restart)
	}
}

// -h is no fault, -version needs no other setting to be right, and a mistyped flag is told its name.
func TestFlags(t *testing.T) {
	if _, err := config.Load([]string{"-loops", "x", "-h"}, nil); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	if c, err := config.Load([]string{"-version"}, []string{"STREAMING_DAEMON_LOOPS=x"}); err != nil || !c.Version {
		t.Errorf("-version: %v", err)
	}
	for args, want := range map[string]string{
		"-max-conections 5": "did you mean -max-connections?",
		"--log_level info":  "did you mean -log-level?",
		"-loops":            "needs an argument",
		"stray":             `unexpected argument "stray"`,
	} {
		if _, err := config.Load(strings.Fields(args), nil); err == nil || !strings.Contains(err.Error(), want) ||
			strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", args, err, want)
		}
	}
	// All that is wrong is told at once.
	_, err := config.Load([]string{"-loops", "x", "-config", write(t, "max-connections: 0\nnope: 1\n")}, []string{"STREAMING_DAEMON_REJECT=x"})
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != 4 {
		t.Errorf("%v", err)
	}
}

// The settings together: nothing to listen on, one path for two, a page without a way to hand over.
func TestTogether(t *testing.T) {
	off := []string{"-socket", "", "-seqpacket-socket", ""}
	for _, tt := range []struct {
		args []string
		file string
		want string // "": fine
	}{
		{off, "", "all off"},
		{off, "listeners:\n- {path: /a, type: fdpass}\n", ""},
		{[]string{"-socket", "/a", "-seqpacket-socket", "/b/../a"}, "", "-socket and -seqpacket-socket have the same path /a"},
		{[]string{"-socket", "/a"}, "listeners:\n- {path: //a, type: fdpass}\n", "-socket and FILE:2:3: listeners[0] have the same path /a"},
		{append(off, "-fdpass-socket", "/a", "-front", "a:1"), "", "-front needs"},
		{append(off, "-front", "a:1"), "listeners:\n- {path: /a, type: stream}\n", ""},
	} {
		path := write(t, tt.file)
		_, err := config.Load(append([]string{"-config", path}, tt.args...), nil)
		want := strings.ReplaceAll(tt.want, "FILE", path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v %q: %v, want %q", tt.args, tt.file, err, want)
		}
	}
}

// Whoever lists listeners gets those, and the two sockets of the defaults only when asked for.
func TestListenersReplaceTheDefaults(t *testing.T) {
	path := write(t, "listeners:\n- {path: /a, type: stream}\n")
	names := func(c *config.Config) (all []string) {
		for _, l := range c.Listeners {
			all = append(all, l.Path)
		}
		return all
	}
	if got := names(load(t, []string{"-config", path}, nil)); !slices.Equal(got, []string{"/a"}) {
		t.Errorf("listeners %v", got)
	}
	if got := names(load(t, []string{"-config", path, "-seqpacket-socket", "/q"}, nil)); !slices.Equal(got, []string{"/q", "/a"}) {
		t.Errorf("listeners %v", got)
	}
	if got := names(load(t, nil, nil)); !slices.Equal(got, []string{"/var/run/streaming-daemon.sock", "/var/run/streaming-daemon.seqpacket.sock"}) {
		t.Errorf("listeners %v", got)
	}
}

// Every listener has what its entry says, and what the settings say where it says nothing.
func TestListeners(t *testing.T) {
	c := load(t, []string{"-config", write(t, full), "-socket-mode", "0640"}, nil)
	if len(c.Listeners) != 4 {
		t.Fatalf("%d listeners", len(c.Listeners))
	}
	id := func(p *uint32) int {
		if p == nil {
			return -1
		}
		return int(*p)
	}
	flagged, all, bare, named := c.Listeners[0], c.Listeners[1], c.Listeners[2], c.Listeners[3]
	if flagged.Path != "/run/sd/stream.sock" || flagged.Kind != fdrecv.KindStream || id(flagged.GID) != 33 {
		t.Errorf("the flag's: %+v", flagged)
	}
	if all.Kind != fdrecv.KindFDPass || all.Mode != 0o666 || id(all.UID) != 0 || id(all.GID) != 7 || all.Backend != "demo" ||
		!slices.Equal(all.AllowUIDs, []uint32{0, 33}) || !slices.Equal(all.AllowGIDs, []uint32{33}) {
		t.Errorf("%+v", all)
	}
	want := `{"prompt":"a \"quoted\" prompt","user_id":7,"n":[1,2.50,true,null,{"x":0.5}],"long":"two\nlines\n","response_headers":{"X-A":"b"}}`
	if got := string(all.Payload.Raw()); got != want {
		t.Errorf("payload\n%s, want\n%s", got, want)
	}
	if all.Payload.UserID != "7" || len(all.Payload.ResponseHeaders) != 1 {
		t.Errorf("payload %+v", all.Payload)
	}
	if bare.Kind != fdrecv.KindSeqpacket || bare.Mode != 0o640 || id(bare.UID) != -1 || id(bare.GID) != 33 || bare.AllowUIDs != nil ||
		bare.Payload.Raw() != nil {
		t.Errorf("%+v", bare)
	}
	if id(named.UID) != 0 || id(named.GID) != 0 || !slices.Equal(named.AllowUIDs, []uint32{0}) {
		t.Errorf("names: %+v", named)
	}
	if !strings.HasSuffix(bare.Name, ": listeners[1]") {
		t.Errorf("name %q", bare.Name)
	}
}

// full has everything that a file can have.
const full = `# everything
socket: /run/sd/stream.sock
socket-group: 33
max-connections: 60000
heartbeat-interval: 1m30s
max-pending-bytes: 512MiB
log-format: json
listeners:
  - path: "/run/sd/fd pass.sock"
    type: fdpass
    mode: 0666
    owner: 0
    group: "7"
    allow-uids: [0, 33]
    allow-gids:
      - 33
    defaults:
      backend: demo
      payload:
        prompt: a "quoted" prompt
        user_id: 7
        n: [1, 2.50, true, null, {x: .5}]
        long: |
          two
          lines
        response_headers: {X-A: b}
  - path: /run/sd/seq.sock
    type: seqpacket
  - {path: /run/sd/s.sock, type: stream, owner: root, group: root, allow-uids: [root]}
`
