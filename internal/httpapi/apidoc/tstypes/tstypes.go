// Package tstypes writes TypeScript types of the API's documents, for clients/typescript.
package tstypes

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

const header = "// Generated from %s by `go generate ./clients`. Do not edit.\n"

// Frames writes the schemas of the AsyncAPI document and the data of each frame by its type.
func Frames() (string, error) {
	_, source := apidoc.Sources()
	doc, err := apidoc.Parse(source)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, header, "asyncapi.yaml")
	schemas(&b, doc)
	for _, op := range []struct{ id, name, text string }{
		{"receiveFromClient", "ClientFrames", "The data of each frame that a client sends, by its type."},
		{"sendToClient", "ServerFrames", "The data of each frame that the server sends, by its type."},
	} {
		fmt.Fprintf(&b, "\n/** %s */\nexport interface %s {\n", op.text, op.name)
		for _, ref := range doc.Get("operations", op.id, "messages").Items() {
			m := ref.Follow(doc)
			data := "undefined"
			if d := m.Get("payload", "properties", "data"); d.Exists() {
				data = typeOf(d, "  ")
			}
			fmt.Fprintf(&b, "%s  %q: %s;\n", comment(m.Get("summary").Text(), "  "), m.Get("name").Text(), data)
		}
		b.WriteString("}\n")
	}
	return b.String(), nil
}

// Rest writes the schemas of the OpenAPI document and each operation's path, query, body and answer by its id.
func Rest() (string, error) {
	source, _ := apidoc.Sources()
	doc, err := apidoc.Parse(source)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, header, "openapi.yaml")
	schemas(&b, doc)
	b.WriteString("\n/** Each operation by its id. */\nexport interface Operations {\n")
	for _, path := range doc.Get("paths").Members() {
		for _, op := range path.Value.Members() {
			if id := op.Value.Get("operationId").Text(); id != "" {
				operation(&b, doc, path.Key, op, id)
			}
		}
	}
	b.WriteString("}\n")
	return b.String(), nil
}

func operation(b *strings.Builder, doc apidoc.Node, path string, op apidoc.Member, id string) {
	fmt.Fprintf(b, "%s  %s: {\n    method: %q;\n    path: %q;\n", comment(op.Value.Get("summary").Text(), "  "), id, strings.ToUpper(op.Key), path)
	if query := parameters(doc, op.Value, "query"); query != "" {
		fmt.Fprintf(b, "    query: %s;\n", query)
	}
	body := op.Value.Get("requestBody").Follow(doc).Get("content", "application/json", "schema")
	if body.Exists() {
		fmt.Fprintf(b, "    body: %s;\n", typeOf(body, "    "))
	}
	fmt.Fprintf(b, "    response: %s;\n  };\n", answer(doc, op.Value))
}

func parameters(doc, op apidoc.Node, in string) string {
	var out []string
	for _, p := range op.Get("parameters").Items() {
		p = p.Follow(doc)
		if p.Get("in").Text() != in {
			continue
		}
		mark := "?"
		if p.Get("required").Text() == "true" {
			mark = ""
		}
		out = append(out, fmt.Sprintf("%s%s: %s", key(p.Get("name").Text()), mark, typeOf(p.Get("schema"), "    ")))
	}
	if out == nil {
		return ""
	}
	return "{ " + strings.Join(out, "; ") + " }"
}

// answer is the union of what the operation's successes carry as JSON.
func answer(doc, op apidoc.Node) string {
	var out []string
	for _, r := range op.Get("responses").Members() {
		if !strings.HasPrefix(r.Key, "2") {
			continue
		}
		t := "undefined"
		if s := r.Value.Follow(doc).Get("content", "application/json", "schema"); s.Exists() {
			t = typeOf(s, "    ")
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	if out == nil {
		return "never"
	}
	return strings.Join(out, " | ")
}

func schemas(b *strings.Builder, doc apidoc.Node) {
	for _, s := range doc.Get("components", "schemas").Members() {
		b.WriteString("\n" + comment(s.Value.Get("description").Text(), ""))
		t := typeOf(s.Value, "")
		if s.Value.Get("properties").Exists() && !s.Value.Get("allOf").Exists() {
			fmt.Fprintf(b, "export interface %s %s\n", s.Key, t)
		} else {
			fmt.Fprintf(b, "export type %s = %s;\n", s.Key, t)
		}
	}
}

func comment(text, indent string) string {
	text = strings.Join(strings.Fields(strings.ReplaceAll(text, "*/", "* /")), " ")
	if text == "" {
		return ""
	}
	return indent + "/** " + text + " */\n"
}

// typeOf writes a schema's type. Bounds and formats have no place in one.
func typeOf(s apidoc.Node, indent string) string {
	if ref := s.Ref(); ref != nil {
		return ref[len(ref)-1]
	}
	if c := s.Get("const"); c.Exists() {
		return literal(c)
	}
	if list := s.Get("enum").Items(); list != nil {
		return each(list, " | ", literal)
	}
	for _, word := range []string{"oneOf", "anyOf"} {
		if list := s.Get(word).Items(); list != nil {
			return each(list, " | ", func(n apidoc.Node) string { return typeOf(n, indent) })
		}
	}
	if list := s.Get("allOf").Items(); list != nil {
		return each(list, " & ", func(n apidoc.Node) string { return typeOf(n, indent) })
	}
	if list := s.Get("type").Items(); list != nil {
		return each(list, " | ", func(n apidoc.Node) string { return plain(n.Text(), s, indent) })
	}
	return plain(s.Get("type").Text(), s, indent)
}

func plain(name string, s apidoc.Node, indent string) string {
	switch name {
	case "string", "boolean", "null":
		return name
	case "integer", "number":
		return "number"
	case "array":
		t := typeOf(s.Get("items"), indent)
		if strings.ContainsAny(t, "|&") {
			t = "(" + t + ")"
		}
		return t + "[]"
	case "object", "":
		if s.Get("properties").Exists() {
			return object(s, indent)
		}
		if name == "" {
			return "unknown"
		}
		if more := s.Get("additionalProperties"); len(more.Members()) > 0 {
			return "Record<string, " + typeOf(more, indent) + ">"
		}
		return "Record<string, unknown>"
	}
	return "unknown"
}

func object(s apidoc.Node, indent string) string {
	var b strings.Builder
	b.WriteString("{\n")
	inner := indent + "  "
	for _, p := range s.Get("properties").Members() {
		mark := "?"
		if slices.ContainsFunc(s.Get("required").Items(), func(n apidoc.Node) bool { return n.Text() == p.Key }) {
			mark = ""
		}
		fmt.Fprintf(&b, "%s%s%s%s: %s;\n", comment(p.Value.Get("description").Text(), inner), inner, key(p.Key), mark, typeOf(p.Value, inner))
	}
	b.WriteString(indent + "}")
	return b.String()
}

func each(list []apidoc.Node, joiner string, f func(apidoc.Node) string) string {
	out := make([]string, len(list))
	for i, n := range list {
		out[i] = f(n)
	}
	return strings.Join(out, joiner)
}

func literal(n apidoc.Node) string {
	if n.IsString() {
		return fmt.Sprintf("%q", n.Text())
	}
	if n.Text() == "" {
		return "null"
	}
	return n.Text()
}

var identifier = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$]*$`)

func key(name string) string {
	if identifier.MatchString(name) {
		return name
	}
	return fmt.Sprintf("%q", name)
}
