package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"strconv"

	"go.yaml.in/yaml/v4"

	"streaming-daemon-go/fdrecv"
	"streaming-daemon-go/sse"
)

// fileListener is an entry of `listeners:`. What it leaves open comes from the settings, which flags may still change.
type fileListener struct {
	where            string // FILE:LINE:COLUMN
	index            int
	path             string
	kind             fdrecv.Kind
	mode             *fs.FileMode
	owner, group     string
	uids, gids       []string
	backend, payload string // payload: JSON
}

var (
	listenerNames = []string{"path", "type", "mode", "owner", "group", "allow-uids", "allow-gids", "defaults"}
	defaultsNames = []string{"backend", "payload"}
	kinds         = []fdrecv.Kind{fdrecv.KindStream, fdrecv.KindSeqpacket, fdrecv.KindFDPass}
)

// listeners reads the list.
func (r *reader) listeners(list *yaml.Node) (all []fileListener) {
	if !r.plain(list) {
		return nil
	}
	if list.Kind != yaml.SequenceNode {
		r.fault(list, "%s must be a list: a dash before each listener", listenersKey)
		return nil
	}
	for i, n := range list.Content {
		l := fileListener{where: fmt.Sprintf("%s:%d:%d", r.name(), n.Line, n.Column), index: i}
		if r.plain(n) && r.listener(&l, n) {
			all = append(all, l)
		}
	}
	return all
}

// listener reads one entry; false: it has a fault.
func (r *reader) listener(l *fileListener, n *yaml.Node) bool {
	before := len(r.faults)
	what := fmt.Sprintf("%s[%d]", listenersKey, l.index)
	var kindName string
	r.eachKey(n, what, listenerNames, func(key string, _, v *yaml.Node) {
		switch key {
		case "path":
			r.parse(key, v, text{&l.path})
		case "type":
			var names []string
			for _, k := range kinds {
				names = append(names, k.String())
			}
			r.parse(key, v, choice{&kindName, names})
		case "mode":
			l.mode = new(fs.FileMode)
			r.parse(key, v, mode{l.mode})
		case "owner":
			r.parse(key, v, text{&l.owner})
		case "group":
			r.parse(key, v, text{&l.group})
		case "allow-uids":
			l.uids = r.texts(key, v)
		case "allow-gids":
			l.gids = r.texts(key, v)
		case "defaults":
			r.defaults(l, v)
		}
	})
	for _, k := range kinds {
		if k.String() == kindName {
			l.kind = k
		}
	}
	if len(r.faults) == before {
		if l.path == "" {
			r.fault(n, "%s has no path", what)
		}
		if kindName == "" {
			r.fault(n, "%s has no type: stream, seqpacket or fdpass", what)
		}
	}
	return len(r.faults) == before
}

// parse reads a single value.
func (r *reader) parse(key string, n *yaml.Node, v value) {
	if s, ok := r.scalar(key, n); ok {
		if err := v.parse(s); err != nil {
			r.fault(n, "%s", mustBe(key, s, err))
		}
	}
}

// texts reads a list of single values.
func (r *reader) texts(key string, n *yaml.Node) (all []string) {
	if !r.plain(n) {
		return nil
	}
	if n.Kind != yaml.SequenceNode {
		r.fault(n, "%s must be a list, such as [www-data] or [33]", key)
		return nil
	}
	if len(n.Content) == 0 {
		r.fault(n, "%s is empty: leave it out to let in whom the mode lets in", key)
	}
	for _, item := range n.Content {
		if s, ok := r.scalar(key, item); ok {
			all = append(all, s)
		}
	}
	return all
}

// defaults reads what a handoff gets that does not say it itself.
func (r *reader) defaults(l *fileListener, n *yaml.Node) {
	if !r.plain(n) {
		return
	}
	r.eachKey(n, "defaults", defaultsNames, func(key string, _, v *yaml.Node) {
		if key == "backend" {
			r.parse(key, v, choice{&l.backend, Backends})
			return
		}
		if v.Kind != yaml.MappingNode {
			r.fault(v, "payload must be a list of `name: value` lines, as JSON would have them")
			return
		}
		before := len(r.faults)
		b := r.appendJSON(nil, v, 0)
		if len(r.faults) > before {
			return
		}
		p, err := fdrecv.ParsePayload(b)
		if err != nil {
			r.fault(v, "payload: %s", printable(err.Error()))
			return
		}
		for _, h := range p.ResponseHeaders {
			if err := sse.CheckHeader(sse.Header{Name: h.Name, Value: h.Value}); err != nil {
				r.fault(v, "payload: %v", err)
			}
		}
		l.payload = string(b)
	})
}

// resolve makes the Listener, with what c says where the entry says nothing.
func (l *fileListener) resolve(c *Config, faults *Faults) Listener {
	in := Listener{
		Name: fmt.Sprintf("%s: %s[%d]", l.where, listenersKey, l.index), Path: l.path, Kind: l.kind, Mode: c.SocketMode,
		Backend: c.Backend,
	}
	if l.mode != nil {
		in.Mode = *l.mode
	}
	if l.backend != "" {
		in.Backend = l.backend
	}
	owner, group := l.owner, l.group
	if owner == "" {
		owner = c.SocketOwner
	}
	if group == "" {
		group = c.SocketGroup
	}
	fault := func(key string) func(error) {
		return func(err error) { faults.add(l.where, "%s[%d]: %s: %v", listenersKey, l.index, key, err) }
	}
	if l.owner != "" || c.SocketOwner == "" {
		in.UID = lookup(owner, userID, fault("owner"))
	} else {
		in.UID = lookup(owner, userID, func(error) {}) // the setting's fault, told once
	}
	if l.group != "" || c.SocketGroup == "" {
		in.GID = lookup(group, groupID, fault("group"))
	} else {
		in.GID = lookup(group, groupID, func(error) {})
	}
	for _, s := range l.uids {
		if id := lookup(s, userID, fault("allow-uids")); id != nil {
			in.AllowUIDs = append(in.AllowUIDs, *id)
		}
	}
	for _, s := range l.gids {
		if id := lookup(s, groupID, fault("allow-gids")); id != nil {
			in.AllowGIDs = append(in.AllowGIDs, *id)
		}
	}
	in.Payload, _ = fdrecv.ParsePayload([]byte(l.payload)) // read without an error before
	return in
}

// lookup gives the number of a user or group; nil: the name is empty, or nobody has it, which fault hears.
func lookup(name string, find func(string) (string, error), fault func(error)) *uint32 {
	if name == "" {
		return nil
	}
	number := name
	if _, err := strconv.ParseInt(name, 10, 64); err != nil {
		if number, err = find(name); err != nil {
			fault(err)
			return nil
		}
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || n == 1<<32-1 { // chown(2) takes that for "leave it as it is"
		fault(fmt.Errorf("%q is no id: it must be a name, or a number from 0 to %d", name, uint32(1<<32-2)))
		return nil
	}
	id := uint32(n)
	return &id
}

func userID(name string) (string, error) {
	u, err := user.Lookup(name)
	if err != nil {
		if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
			err = fmt.Errorf("this machine has no user %.100q", name)
		}
		return "", err
	}
	return u.Uid, nil
}

func groupID(name string) (string, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		if unknown := user.UnknownGroupError(""); errors.As(err, &unknown) {
			err = fmt.Errorf("this machine has no group %.100q", name)
		}
		return "", err
	}
	return g.Gid, nil
}
