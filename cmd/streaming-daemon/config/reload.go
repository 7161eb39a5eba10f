package config

import "reflect"

// Reload compares what runs with what was read since. It gives the Config to run on with, in which everything that
// takes a restart is as it was, the names of the settings that changed, and of those that will only after a restart.
func Reload(running, read *Config) (next *Config, changed, restart []string) {
	c := *read
	c.sources = map[string]source{}
	for _, s := range settings {
		from := read
		if was, is := s.value(running).String(), s.value(read).String(); was != is {
			if s.reload {
				changed = append(changed, s.name)
			} else {
				restart = append(restart, s.name)
			}
		}
		if !s.reload {
			from = running
			if err := s.value(&c).parse(s.value(running).String()); err != nil {
				panic("config: " + s.name + " does not read its own text: it must be " + err.Error())
			}
		}
		if source, ok := from.sources[s.name]; ok {
			c.sources[s.name] = source
		}
	}
	if !reflect.DeepEqual(withoutPlace(running.own), withoutPlace(read.own)) {
		restart = append(restart, listenersKey)
	}
	c.own, c.Listeners = running.own, running.Listeners
	return &c, changed, restart
}

// withoutPlace is the list without line numbers: a comment that is added above it changes nothing.
func withoutPlace(list []fileListener) []fileListener {
	list = append([]fileListener(nil), list...)
	for i := range list {
		list[i].where = ""
	}
	return list
}
