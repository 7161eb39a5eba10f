package config

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"streaming-daemon-go/sse"
)

// PrintUsage prints every setting as a flag, in groups, with its default.
func PrintUsage(out io.Writer) {
	c := defaults()
	for _, g := range groups {
		fmt.Fprintf(out, "\n%s:\n", g.title)
		for _, s := range g.settings {
			usage := s.usage
			if d := s.value(c).String(); d != "" {
				usage += " (default " + d + ")"
			}
			if s.reload {
				usage += " [reload]"
			}
			name := strings.TrimRight(s.name+" "+s.placeholder, " ") // a truth has no placeholder
			fmt.Fprintf(out, "  -%s\n        %s\n", name, usage)
		}
		if g.title == "Process" {
			fmt.Fprint(out, "  -version\n        print the version and exit\n")
		}
	}
	fmt.Fprintf(out, `
A flag wins over the environment (%s for -max-connections, and so on), that over the file of
-config, that over the default. The OpenAI backend's key is no setting: it is read from the environment variable
OPENAI_API_KEY, or from the file that OPENAI_API_KEY_FILE names. What is marked [reload] in the file is applied by SIGHUP; the rest takes a restart.
`, byName["max-connections"].env())
}

// Print prints the settings in force as a file that would bring them about, with the source of each value.
func (c *Config) Print(out io.Writer) error {
	var b strings.Builder
	for i, g := range groups {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "# %s\n", g.title)
		for _, s := range g.settings {
			v := s.value(c)
			shown := v.String()
			if _, ok := v.(text); ok {
				shown = quote(shown)
			}
			line := fmt.Sprintf("%s: %s", s.name, shown)
			if s.notInFile {
				line = "# " + line
			}
			from := c.sources[s.name].text
			if from == "" {
				from = "default"
			}
			fmt.Fprintf(&b, "%-60s # %s\n", line, from)
		}
	}
	c.printListeners(&b)
	_, err := io.WriteString(out, b.String())
	return err
}

func (c *Config) printListeners(b *strings.Builder) {
	if len(c.own) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", listenersKey)
	for _, l := range c.own {
		fmt.Fprintf(b, "%-60s # %s\n", "  - path: "+quote(l.path), l.where)
		fmt.Fprintf(b, "    type: %s\n", l.kind)
		if l.mode != nil {
			fmt.Fprintf(b, "    mode: %s\n", mode{l.mode})
		}
		for _, field := range []struct{ name, value string }{{"owner", l.owner}, {"group", l.group}} {
			if field.value != "" {
				fmt.Fprintf(b, "    %s: %s\n", field.name, quote(field.value))
			}
		}
		for _, field := range []struct {
			name   string
			values []string
		}{{"allow-uids", l.uids}, {"allow-gids", l.gids}} {
			if len(field.values) > 0 {
				var quoted []string
				for _, v := range field.values {
					quoted = append(quoted, quote(v))
				}
				fmt.Fprintf(b, "    %s: [%s]\n", field.name, strings.Join(quoted, ", "))
			}
		}
		if l.backend != "" || l.payload != "" {
			b.WriteString("    defaults:\n")
		}
		if l.backend != "" {
			fmt.Fprintf(b, "      backend: %s\n", l.backend)
		}
		if l.payload != "" {
			fmt.Fprintf(b, "      payload: %s\n", escapeOdd(l.payload)) // JSON is YAML
		}
	}
}

// quote makes a YAML string of s; a JSON string is one.
func quote(s string) string { return escapeOdd(string(sse.AppendJSONString(nil, s))) }

// escapeOdd keeps what a terminal would obey out of strings in quotes: YAML allows no such character either.
func escapeOdd(quoted string) string {
	var out strings.Builder
	for _, r := range quoted {
		switch {
		case unicode.IsPrint(r):
			out.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// quoteOdd is s itself, unless something in it does not belong into a line.
func quoteOdd(s string) string {
	if printable(s) == s {
		return s
	}
	return strconv.Quote(s)
}

// printable escapes what does not belong into a line, and leaves quotes alone.
func printable(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
