package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
)

// source says where a value comes from.
type source struct {
	text string // for people; "": the default
	name string // of the setting there, for messages
}

// given is a value that a flag or the environment gives.
type given struct {
	setting *setting
	text    string
	source  source
}

// Load reads the settings: args are those behind the program's name, environ is as os.Environ gives it. flag.ErrHelp:
// -h was given, and nothing was read. Any other error is Faults.
func Load(args, environ []string) (*Config, error) {
	c := defaults()
	fromFlags, err := c.parseFlags(args)
	if err != nil || c.Version {
		return c, err
	}
	values := append(c.readEnviron(environ), fromFlags...)
	for _, g := range values {
		if g.setting.notInFile { // where the file is has to be known first
			_ = g.setting.value(c).parse(g.text) // reported below
		}
	}
	var faults Faults
	if c.File != "" {
		faults = c.readFile(c.File)
	}
	for _, g := range values {
		if err := g.setting.value(c).parse(g.text); err != nil {
			faults.add("", "%s (-h says more)", mustBe(g.source.name, g.text, err))
			continue
		}
		c.sources[g.setting.name] = g.source
	}
	faults = append(faults, c.settle()...)
	return c, faults.orNil()
}

// LoadFile reads a file on top of the defaults alone, and looks at what otherwise only the start would find.
func LoadFile(path string) (*Config, error) {
	c := defaults()
	c.File = path
	faults := c.readFile(path)
	faults = append(faults, c.settle()...)
	faults = append(faults, c.checkAddresses()...)
	faults = append(faults, c.checkProfiles()...)
	return c, faults.orNil()
}

// parseFlags takes the command line apart.
func (c *Config) parseFlags(args []string) (all []given, err error) {
	set := flag.NewFlagSet("streaming-daemon", flag.ContinueOnError)
	set.SetOutput(io.Discard) // an error is one line, printed by who called
	set.Usage = func() {}
	for _, s := range settings {
		note := func(text string) error {
			all = append(all, given{s, text, source{"flag -" + s.name, "-" + s.name}})
			return nil
		}
		if _, alone := s.value(c).(truth); alone {
			set.BoolFunc(s.name, "", note)
		} else {
			set.Func(s.name, "", note)
		}
	}
	set.BoolVar(&c.Version, "version", false, "")
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, err
	case err != nil:
		text := err.Error()
		if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
			text = fmt.Sprintf("there is no flag %q: did you mean -%s?", "-"+name, nearest(name, append(Names(), "version")))
		}
		return nil, Faults{{Text: text + " (-h lists the flags)"}}
	case set.NArg() > 0:
		return nil, Faults{{Text: fmt.Sprintf("unexpected argument %q: flags come as -name value; see -h", set.Arg(0))}}
	}
	return all, nil
}

// readEnviron gives what the environment sets. A name that begins as ours do and is none is a warning only: others may
// have put it there.
func (c *Config) readEnviron(environ []string) (all []given) {
	names, aliases := map[string]*setting{}, map[string]*setting{}
	var known []string
	for _, s := range settings {
		names[s.env()] = s
		known = append(known, s.env())
		if s.alias != "" {
			aliases[s.alias] = s
		}
	}
	var underAlias []given // under both names: ours is the one that was meant for us
	for _, entry := range environ {
		name, text, _ := strings.Cut(entry, "=")
		if s := aliases[name]; s != nil {
			underAlias = append(underAlias, given{s, text, source{"environment " + name, name}})
			continue
		}
		if !strings.HasPrefix(name, envPrefix) || strings.HasPrefix(name, upgradePrefix) {
			continue
		}
		if s := names[name]; s != nil {
			all = append(all, given{s, text, source{"environment " + name, name}})
		} else {
			c.Warnings = append(c.Warnings, fmt.Sprintf("environment: there is no setting %q: did you mean %s?", name, nearest(name, known)))
		}
	}
	return append(underAlias, all...)
}

// nameOf is the setting as its source calls it, for messages.
func (c *Config) nameOf(setting string) string {
	if name := c.sources[setting].name; name != "" {
		return name
	}
	return "-" + setting
}
