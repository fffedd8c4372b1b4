package apidoc

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"sync"
)

//go:embed frames.html
var framesTemplate string

//go:embed frames.css
var framesCSS []byte

// FramesPage returns the AsyncAPI document as a page for people, without scripts. Its style is FramesCSS at /api/docs/frames.css.
func FramesPage() ([]byte, error) { return framesPage() }

// FramesCSS returns the style of FramesPage.
func FramesCSS() []byte { return framesCSS }

type (
	// span is a piece of text: code, a link to an object, or neither.
	span struct {
		Text      string
		Code, Ref bool
	}
	shape struct {
		Members []property
		Type    []span
	}
	property struct {
		Name        string
		Optional    bool
		Type        []span
		Description []span
	}
	frameDoc struct {
		Name, Anchor, Example string
		Summary, Description  []span
		Data                  *shape
	}
	groupDoc struct {
		Title  string
		Frames []frameDoc
	}
	schemaDoc struct {
		Name        string
		Description []span
		shape
	}
	pageDoc struct {
		Title   string
		Intro   [][]span
		Closing []span
		Groups  []groupDoc
		Schemas []schemaDoc
	}
)

var framesPage = sync.OnceValues(func() ([]byte, error) {
	doc, err := Parse(asyncapi)
	if err != nil {
		return nil, fmt.Errorf("parse asyncapi.yaml: %w", err)
	}
	page := pageDoc{Title: doc.Get("info", "title").Text(), Closing: spans(doc.Get("channels", "socket", "description").Text())}
	for p := range strings.SplitSeq(doc.Get("info", "description").Text(), "\n\n") {
		page.Intro = append(page.Intro, spans(p))
	}
	for _, op := range doc.Get("operations").Members() {
		g := groupDoc{Title: op.Value.Get("title").Text()}
		for _, ref := range op.Value.Get("messages").Items() {
			f, err := frameOf(ref.Follow(doc), op.Key)
			if err != nil {
				return nil, err
			}
			g.Frames = append(g.Frames, f)
		}
		page.Groups = append(page.Groups, g)
	}
	for _, s := range doc.Get("components", "schemas").Members() {
		page.Schemas = append(page.Schemas, schemaDoc{Name: s.Key, Description: spans(s.Value.Get("description").Text()), shape: shapeOf(s.Value)})
	}
	t, err := template.New("frames").Parse(framesTemplate)
	if err != nil {
		return nil, fmt.Errorf("parse frames.html: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, page); err != nil {
		return nil, fmt.Errorf("write the page of frames: %w", err)
	}
	return b.Bytes(), nil
})

func frameOf(m Node, group string) (frameDoc, error) {
	name := m.Get("name").Text()
	f := frameDoc{
		Name: name, Anchor: group + "-" + strings.ReplaceAll(name, ":", "-"), Summary: spans(m.Get("summary").Text()),
		Description: spans(m.Get("description").Text()),
	}
	if d := m.Get("payload", "properties", "data"); d.Exists() {
		s := shapeOf(d)
		f.Data = &s
	}
	for _, e := range m.Get("examples").Items() {
		v, err := e.Get("payload").Decode()
		if err != nil {
			return f, fmt.Errorf("decode the example of %s: %w", name, err)
		}
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return f, fmt.Errorf("encode the example of %s: %w", name, err)
		}
		f.Example = string(b)
	}
	return f, nil
}

func shapeOf(s Node) shape {
	if !s.Get("properties").Exists() {
		return shape{Type: typeSpans(s)}
	}
	var out shape
	for _, p := range s.Get("properties").Members() {
		required := slices.ContainsFunc(s.Get("required").Items(), func(n Node) bool { return n.Text() == p.Key })
		out.Members = append(out.Members, property{
			Name: p.Key, Optional: !required, Type: typeSpans(p.Value), Description: spans(p.Value.Get("description").Text()),
		})
	}
	return out
}

// typeSpans says in words of JSON what a schema allows.
func typeSpans(s Node) []span {
	if ref := s.Ref(); ref != nil {
		return []span{{Text: ref[len(ref)-1], Ref: true}}
	}
	join := func(list []Node, with string) (out []span) {
		for i, n := range list {
			if i > 0 {
				out = append(out, span{Text: with})
			}
			out = append(out, typeSpans(n)...)
		}
		return out
	}
	switch {
	case s.Get("const").Exists():
		return []span{{Text: s.Get("const").Text()}}
	case s.Get("enum").Exists():
		return []span{{Text: texts(s.Get("enum").Items(), "null")}}
	case s.Get("oneOf").Exists():
		return join(s.Get("oneOf").Items(), " or ")
	case s.Get("allOf").Exists():
		return join(s.Get("allOf").Items(), " and ")
	case s.Get("properties").Exists():
		var names []string
		for _, p := range s.Get("properties").Members() {
			names = append(names, p.Key)
		}
		return []span{{Text: "{ " + strings.Join(names, ", ") + " }"}}
	case s.Get("type").Text() == "array":
		return append([]span{{Text: "array of "}}, typeSpans(s.Get("items"))...)
	case len(s.Get("additionalProperties").Members()) > 0:
		return append([]span{{Text: "object of id → "}}, typeSpans(s.Get("additionalProperties"))...)
	case s.Get("type").Items() != nil:
		return []span{{Text: texts(s.Get("type").Items(), "")}}
	}
	return []span{{Text: s.Get("type").Text()}}
}

func texts(list []Node, absent string) string {
	out := make([]string, len(list))
	for i, n := range list {
		if out[i] = n.Text(); out[i] == "" {
			out[i] = absent
		}
	}
	return strings.Join(out, " or ")
}

// spans splits text at its backquotes.
func spans(text string) []span {
	var out []span
	for i, part := range strings.Split(text, "`") {
		if part != "" {
			out = append(out, span{Text: part, Code: i%2 == 1})
		}
	}
	return out
}
