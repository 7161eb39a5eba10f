package config_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode"

	"streaming-daemon-go/cmd/streaming-daemon/config"
)

// Goal: whoever mistypes something in the file is told the file, line and column, what is wrong and what was probably
// meant, and all of it at once. Method: each row lists what must be said, one entry per fault, in order.
func TestFaultsInTheFile(t *testing.T) {
	long := strings.Repeat("[", 3000)
	for _, tt := range []struct {
		name, file string
		want       []string // LINE:COLUMN: text
	}{
		{"empty", "", nil},
		{"comments only", "# nothing\n---\n", nil},
		{"null", "~\n", nil},
		{"a mistyped name", "loops: 1\nmax-conections: 5\n", []string{`2:1: there is no "max-conections": did you mean max-connections?`}},
		{"with underscores", "log_level: info\n", []string{`1:1: there is no "log_level": did you mean log-level?`}},
		{"several", "loops: 999\nfoo: 1\nreject: http\nlog-format: xml\n", []string{`1:8: loops is "999": it must be 0 or more, and at most 256`,
			`2:1: there is no "foo": did you mean `, `4:13: log-format is "xml": it must be text or json`}},
		{"twice", "loops: 1\nreject: sse\nloops: 2\n", []string{"3:1: loops was set in line 1 already"}},
		{"not in the file", "config: x\n", []string{"1:1: config cannot be set in the file: use -config or STREAMING_DAEMON_CONFIG"}},
		{"no value", "loops:\nreject: sse\n", []string{`loops has no value (write "" for an empty one)`}},
		{"a list for a value", "loops: [1]\n", []string{"1:8: loops must be a single value"}},
		{"a mapping for a value", "loops:\n  a: 1\n", []string{"2:3: loops must be a single value"}},
		{"a list for the file", "- loops: 1\n", []string{"1:1: the file must be a list of `name: value` lines"}},
		{"a word for the file", "loops\n", []string{"1:1: the file must be"}},
		{"an alias", "log-level: &a info\nreject: *a\n", []string{"1:12: anchors are not supported", "2:9: aliases are not supported: write the value again"}},
		{"a merge", "<<: {loops: 1}\n", []string{`1:1: there is no "<<"`}},
		{"a tag", "loops: !!str 1\n", []string{"1:8: tags are not supported"}},
		{"a list for a name", "? [a]\n: 1\n", []string{"1:3: a name must be a plain word"}},
		{"two documents", "loops: 1\n---\nloops: 2\n", []string{"a second document: the file is one"}},
		{"no YAML", "loops: 1\n  reject: sse\n", []string{":2:9: no YAML: mapping values are not allowed in this context"}},
		{"a tab", "listeners:\n\t- path: x\n", []string{":2:1: no YAML: found character that cannot start any token"}},
		{"no end", "listeners: [\n", []string{"no YAML: "}},
		{"no UTF-8", "loops: \xff\n", []string{"no YAML: invalid leading UTF-8 octet"}},
		{"a control character", "loops: \x1b[31m\n", []string{"no YAML: control characters are not allowed"}},
		{"an escaped control character", `"\e[31m": "\e[31m"` + "\n" + `loops: "\e[31m\n"` + "\n",
			[]string{`1:1: there is no "\x1b[31m"`, `2:8: loops is "\x1b[31m\n": it must be a whole number`}},
		{"too deep", long + "\n", []string{": "}},

		{"no list of listeners", "listeners: {path: /a}\n", []string{"1:12: listeners must be a list: a dash before each listener"}},
		{"an empty list", "listeners: []\n", nil},
		{"a word for a listener", "listeners:\n- /a\n", []string{"2:3: listeners[0] must be a list of `name: value` lines"}},
		{"no path, no type", "listeners:\n- {mode: 0600}\n", []string{"2:3: listeners[0] has no path", "2:3: listeners[0] has no type: stream, seqpacket or fdpass"}},
		{"an unknown type", "listeners:\n- {path: /a, type: dgram}\n", []string{`2:20: type is "dgram": it must be stream or seqpacket or fdpass`}},
		{"an unknown name", "listeners:\n- path: /a\n  typ: stream\n", []string{`3:3: there is no "typ": did you mean type?`}},
		{"a bad mode", "listeners:\n- {path: /a, type: stream, mode: 888}\n", []string{`2:34: mode is "888": it must be permission bits in octal`}},
		{"an unknown owner", "listeners:\n- {path: /a, type: stream, owner: no-such-user-here}\n",
			[]string{`2:3: listeners[0]: owner: this machine has no user "no-such-user-here"`}},
		{"an unknown group", "listeners:\n- {path: /a, type: stream, group: no-such-group-here}\n",
			[]string{`2:3: listeners[0]: group: this machine has no group "no-such-group-here"`}},
		{"an unknown peer", "listeners:\n- {path: /a, type: stream, allow-uids: [0, no-such-user-here, -1]}\n",
			[]string{`listeners[0]: allow-uids: this machine has no user`, `listeners[0]: allow-uids: "-1" is no id`}},
		{"an unknown group of the settings, told once", "socket-group: no-such-group-here\nlisteners:\n- {path: /a, type: stream}\n",
			[]string{`1: socket-group: this machine has no group`}},
		{"a word for peers", "listeners:\n- {path: /a, type: stream, allow-gids: 33}\n", []string{"2:40: allow-gids must be a list, such as"}},
		{"nobody allowed", "listeners:\n- {path: /a, type: stream, allow-gids: []}\n", []string{"2:40: allow-gids is empty"}},
		{"an unknown default", "listeners:\n- {path: /a, type: fdpass, defaults: {paylod: {}}}\n", []string{`2:39: there is no "paylod": did you mean payload?`}},
		{"an unknown backend", "listeners:\n- {path: /a, type: fdpass, defaults: {backend: x}}\n", []string{`2:48: backend is "x": it must be demo`}},
		{"a word for a payload", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: x}}\n", []string{"2:48: payload must be a list of `name: value` lines"}},
		{"a payload of wrong types", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: {prompt: [1]}}}\n", []string{"2:48: payload: fdrecv: malformed payload: prompt: not a string"}},
		{"a payload that JSON cannot say", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: {x: .inf}}}\n", []string{`2:52: JSON has no ".inf"`}},
		{"a name twice in a payload", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: {x: 1, x: 2}}}\n", []string{`2:55: "x" comes twice`}},
		{"a bad header", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: {response_headers: {\"A\\nB\": x, Content-Type: y}}}}\n",
			[]string{`payload: sse: header name is not a token: "A\nB"`, `payload: sse: header is reserved: "Content-Type"`}},
		{"an alias in a payload", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: {x: &a [1], y: *a}}}\n", []string{"2:52: anchors are not supported", "2:63: aliases are not supported"}},
		{"a deep payload", "listeners:\n- {path: /a, type: fdpass, defaults: {payload: {x: " + strings.Repeat("[", 150) + strings.Repeat("]", 150) + "}}}\n",
			[]string{"nested more than 100 deep"}},

		{"an abstract path", "socket: '@x'\n", []string{"1: socket: @x: abstract sockets"}},
		{"too long a path", "listeners:\n- {path: /" + strings.Repeat("x", 120) + ", type: stream}\n", []string{"2:3: listeners[0]: path /xxx"}},
		{"an address without a port", "metrics-addr: localhost\npprof-addr: 'a:http'\nfront: ':99999'\n", []string{`1: metrics-addr is "localhost": it must be host:port`,
			`2: pprof-addr is "a:http": it must be host:port`, `3: front is ":99999": it must be host:port`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := write(t, tt.file)
			_, err := config.LoadFile(path)
			var faults config.Faults
			if err != nil && !errors.As(err, &faults) {
				t.Fatalf("%T: %v", err, err)
			}
			if len(faults) != len(tt.want) {
				t.Fatalf("%d faults, want %d:\n%v", len(faults), len(tt.want), err)
			}
			for i, f := range faults {
				text := f.Error()
				if !strings.HasPrefix(text, path+":") || !strings.Contains(text, tt.want[i]) {
					t.Errorf("%q, want %q", text, tt.want[i])
				}
				if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("not one clean line: %q", text)
				}
			}
		})
	}
}

// What is no file of settings is refused before it is read whole.
func TestNoFile(t *testing.T) {
	dir := t.TempDir()
	big := write(t, strings.Repeat("# a long comment\n", 70_000))
	for path, want := range map[string]string{
		dir:               "is a directory",
		dir + "/none":     "no such file",
		big:               "larger than 1MiB",
		dir + "/a\nb\x1b": `a\nb\x1b`,
		"/dev/zero":       "larger than 1MiB",
	} {
		_, err := config.LoadFile(path)
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n\x1b") {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

// Goal: no file makes it panic or hang, and whatever is accepted comes back the same when it is printed and read.
func FuzzFile(f *testing.F) {
	f.Add(full)
	f.Add("loops: 0x1\nlisteners:\n- {path: '@', type: fdpass, defaults: {payload: {a: .5, b: 0o7, c: 2001-01-01, d: ~}}}\n")
	f.Add("socket: \"\\U0001F600\\x7f\"\nmax-pending-bytes: 1GiB")
	f.Add("listeners: [{path: \"a\\tb\", type: stream, allow-uids: [0]}]")
	path := f.TempDir() + "/in.yaml"
	f.Fuzz(func(t *testing.T, file string) {
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.LoadFile(path)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("not a clean line: %q", line)
				}
			}
			return
		}
		var b strings.Builder
		if err := c.Print(&b); err != nil {
			t.Fatal(err)
		}
		again, err := config.LoadFile(write(t, b.String()))
		if err != nil {
			t.Fatalf("%v\nin %s", err, &b)
		}
		if _, changed, restart := config.Reload(c, again); fmt.Sprint(changed, restart) != "[] [config]" {
			t.Errorf("changed %v, restart %v in\n%s", changed, restart, &b)
		}
	})
}
