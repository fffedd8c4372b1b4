package apidoc

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// Node is a part of a document that keeps the order of its members. The zero Node is an absent part; all methods accept it.
type Node struct{ n *yaml.Node }

// Parse reads a document.
func Parse(source []byte) (Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(source, &doc); err != nil {
		return Node{}, err
	}
	return Node{doc.Content[0]}, nil
}

// Member is one entry of an object.
type Member struct {
	Key   string
	Value Node
}

// Exists reports whether the part is there.
func (n Node) Exists() bool { return n.n != nil }

// Text returns a scalar's text, "" for anything else.
func (n Node) Text() string {
	if n.n == nil || n.n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.n.Value
}

// IsString reports whether the part is a scalar that JSON writes as a string.
func (n Node) IsString() bool { return n.n != nil && n.n.Kind == yaml.ScalarNode && n.n.Tag == "!!str" }

// Members returns an object's entries in their order.
func (n Node) Members() []Member {
	if n.n == nil || n.n.Kind != yaml.MappingNode {
		return nil
	}
	out := make([]Member, 0, len(n.n.Content)/2)
	for i := 0; i+1 < len(n.n.Content); i += 2 {
		out = append(out, Member{n.n.Content[i].Value, Node{n.n.Content[i+1]}})
	}
	return out
}

// Items returns an array's elements.
func (n Node) Items() []Node {
	if n.n == nil || n.n.Kind != yaml.SequenceNode {
		return nil
	}
	out := make([]Node, 0, len(n.n.Content))
	for _, c := range n.n.Content {
		out = append(out, Node{c})
	}
	return out
}

// Get returns the part at a path of keys.
func (n Node) Get(path ...string) Node {
	for _, key := range path {
		next := Node{}
		for _, m := range n.Members() {
			if m.Key == key {
				next = m.Value
			}
		}
		n = next
	}
	return n
}

// Ref returns the path that a local `$ref` names, nil if the part is none.
func (n Node) Ref() []string {
	ref := n.Get("$ref").Text()
	if !strings.HasPrefix(ref, "#/") {
		return nil
	}
	return strings.Split(strings.TrimPrefix(ref, "#/"), "/")
}

// Follow returns what a `$ref` names in doc, through any number of them, or the part itself.
func (n Node) Follow(doc Node) Node {
	for n.Ref() != nil {
		n = doc.Get(n.Ref()...)
	}
	return n
}

// Decode returns the part as JSON's Go values.
func (n Node) Decode() (v any, err error) {
	if n.n == nil {
		return nil, nil
	}
	err = n.n.Decode(&v)
	return v, err
}
