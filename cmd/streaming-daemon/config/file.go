package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"go.yaml.in/yaml/v4"
)

// fileMax bounds the file in bytes. A thousand listeners with a prompt each fit.
const fileMax = 1 << 20

// readFile puts what the file says into c.
func (c *Config) readFile(path string) Faults {
	r := reader{path: path}
	content, err := readBounded(path)
	if err != nil {
		return Faults{{Text: err.Error()}}
	}
	root, ok := r.document(content)
	if !ok {
		return r.faults
	}
	r.eachKey(root, "the file", append(Names(), listenersKey), func(key string, at, v *yaml.Node) {
		if key == listenersKey {
			c.own = r.listeners(v)
			return
		}
		s := byName[key]
		if s.notInFile {
			r.fault(at, "%s cannot be set in the file: use -%s or %s", key, key, s.env())
			return
		}
		if text, ok := r.scalar(key, v); ok {
			if err := s.value(c).parse(text); err != nil {
				r.fault(v, "%s", mustBe(key, text, err))
				return
			}
			where := fmt.Sprintf("%s:%d", r.name(), at.Line)
			c.sources[key] = source{where, where + ": " + key}
		}
	})
	return r.faults
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %s", printable(err.Error()))
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, fileMax+1))
	if err != nil {
		return nil, fmt.Errorf("configuration: %s", printable(err.Error()))
	}
	if len(content) > fileMax {
		return nil, fmt.Errorf("configuration: %s is larger than %s", quoteOdd(path), formatSize(fileMax))
	}
	return content, nil
}

// reader takes one file apart and collects what is wrong with it.
type reader struct {
	path   string
	faults Faults
}

// name is the file's, for messages.
func (r *reader) name() string { return quoteOdd(r.path) }

// fault notes what is wrong at a node.
func (r *reader) fault(at *yaml.Node, format string, args ...any) {
	r.faults.add(fmt.Sprintf("%s:%d:%d", r.name(), at.Line, at.Column), format, args...)
}

// document gives the mapping that the file is; ok is false when there is none.
func (r *reader) document(content []byte) (root *yaml.Node, ok bool) {
	loader, err := yaml.NewLoader(bytes.NewReader(content))
	var document, second yaml.Node
	if err == nil {
		err = loader.Load(&document)
	}
	switch {
	case errors.Is(err, io.EOF): // nothing but comments
		return nil, false
	case err != nil:
		r.broken(err)
		return nil, false
	}
	if err := loader.Load(&second); err == nil {
		r.fault(&second, "a second document: the file is one")
		return nil, false
	} else if !errors.Is(err, io.EOF) {
		r.broken(err)
		return nil, false
	}
	root = document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, false
	}
	return root, true
}

// broken notes what the YAML parser says.
func (r *reader) broken(err error) {
	var at *yaml.LoadError
	if !errors.As(err, &at) {
		r.faults.add(r.name(), "no YAML: %s", printable(err.Error()))
		return
	}
	where := r.name()
	if at.Mark.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", where, at.Mark.Line, at.Mark.Column)
	}
	r.faults.add(where, "no YAML: %s", printable(at.Message))
}

// eachKey calls f for each key of a mapping that is among names, with the nodes of the key and its value. The others,
// and those that come twice, are faults.
func (r *reader) eachKey(n *yaml.Node, what string, names []string, f func(key string, at, v *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		r.fault(n, "%s must be a list of `name: value` lines", what)
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		at, v := n.Content[i], n.Content[i+1]
		key := at.Value
		switch {
		case at.Kind != yaml.ScalarNode:
			r.fault(at, "a name must be a plain word")
		case !slices.Contains(names, key):
			r.fault(at, "there is no %.100q: did you mean %s?", key, nearest(key, names))
		case seen[key] > 0:
			r.fault(at, "%s was set in line %d already", key, seen[key])
		default:
			seen[key] = at.Line
			f(key, at, v)
		}
	}
}

// scalar gives the text of a single value, as it stands in the file: what YAML would make of 0660 or 1e3 is not asked.
func (r *reader) scalar(key string, v *yaml.Node) (text string, ok bool) {
	switch {
	case !r.plain(v):
	case v.Kind != yaml.ScalarNode:
		r.fault(v, "%s must be a single value", key)
	case v.Tag == "!!null":
		r.fault(v, `%s has no value (write "" for an empty one)`, key)
	default:
		return v.Value, true
	}
	return "", false
}

// plain refuses what a file of settings does not need and what would let a few bytes stand for millions.
func (r *reader) plain(v *yaml.Node) bool {
	switch {
	case v.Kind == yaml.AliasNode:
		r.fault(v, "aliases are not supported: write the value again")
	case v.Anchor != "":
		r.fault(v, "anchors are not supported")
	case v.Style&yaml.TaggedStyle != 0:
		r.fault(v, "tags are not supported")
	default:
		return true
	}
	return false
}
