package config

import (
	"encoding/json"
	"fmt"

	"go.yaml.in/yaml/v4"

	"streaming-daemon-go/sse"
)

// depthMax bounds the nesting of a payload.
const depthMax = 100

// appendJSON adds a node as JSON. What JSON cannot say is a fault, and what is added then is of no use.
func (r *reader) appendJSON(dst []byte, n *yaml.Node, depth int) []byte {
	switch {
	case !r.plain(n):
		return dst
	case depth > depthMax:
		r.fault(n, "nested more than %d deep", depthMax)
		return dst
	}
	switch n.Kind {
	case yaml.MappingNode:
		dst = append(dst, '{')
		seen := map[string]bool{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind != yaml.ScalarNode {
				r.fault(key, "a name must be a plain word")
				return dst
			}
			if seen[key.Value] {
				r.fault(key, "%.100q comes twice", key.Value)
			}
			seen[key.Value] = true
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(sse.AppendJSONString(dst, key.Value), ':')
			dst = r.appendJSON(dst, n.Content[i+1], depth+1)
		}
		return append(dst, '}')
	case yaml.SequenceNode:
		dst = append(dst, '[')
		for i, item := range n.Content {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = r.appendJSON(dst, item, depth+1)
		}
		return append(dst, ']')
	}
	return r.appendScalar(dst, n)
}

func (r *reader) appendScalar(dst []byte, n *yaml.Node) []byte {
	switch n.Tag {
	case "!!null":
		return append(dst, "null"...)
	case "!!bool", "!!int", "!!float":
		if n.Value != "" && json.Valid([]byte(n.Value)) {
			return append(dst, n.Value...) // every digit as it is written
		}
		var v any // True, 0x1f, .5
		err := n.Load(&v)
		if err == nil {
			var b []byte
			if b, err = json.Marshal(v); err == nil {
				return append(dst, b...)
			}
		}
		r.fault(n, "JSON has no %s", printable(fmt.Sprintf("%.40q", n.Value)))
		return dst
	}
	return sse.AppendJSONString(dst, n.Value)
}
