package apidoc_test

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/httpapi/apidoc"
)

// socketDoc is the AsyncAPI document, with the payload's schema of each frame by direction and type.
type socketDoc struct {
	doc              map[string]any
	compiler         *jsonschema.Compiler
	toClient, toServ map[string]string // type → key of components.messages
}

func readSocketDoc(t *testing.T) *socketDoc {
	t.Helper()
	b, err := apidoc.AsyncJSON()
	if err != nil {
		t.Fatal(err)
	}
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	d := &socketDoc{doc: v.(map[string]any), compiler: jsonschema.NewCompiler(), toClient: map[string]string{}, toServ: map[string]string{}}
	d.compiler.DefaultDraft(jsonschema.Draft2020)
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("asyncapi.json", v); err != nil {
		t.Fatal(err)
	}
	for op, frames := range map[string]map[string]string{"sendToClient": d.toClient, "receiveFromClient": d.toServ} {
		for _, m := range dig(d.doc, "operations", op, "messages").([]any) {
			ref := dig(m, "$ref").(string)
			key := ref[strings.LastIndex(ref, "/")+1:]
			frames[dig(d.doc, "components", "messages", key, "name").(string)] = key
		}
	}
	return d
}

func dig(v any, path ...string) any {
	for _, k := range path {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	return v
}

// fits reports what is wrong with a frame by the schema of a message.
func (d *socketDoc) fits(t *testing.T, key string, frame any) error {
	t.Helper()
	s, err := d.compiler.Compile("asyncapi.json#/components/messages/" + key + "/payload")
	if err != nil {
		t.Fatalf("the schema of %s: %v", key, err)
	}
	return s.Validate(frame)
}

// testdata has the schema of @asyncapi/specs 6.11.1, which is what AsyncAPI's own tools check documents by.
func TestTheSocketDocumentIsAsyncAPI(t *testing.T) {
	t.Parallel()
	f, err := os.Open(filepath.Join("testdata", "asyncapi-3.0.0.schema.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := jsonschema.UnmarshalJSON(z)
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("asyncapi-schema.json", schema); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("asyncapi-schema.json")
	if err != nil {
		t.Fatal(err)
	}
	d := readSocketDoc(t)
	if err := s.Validate(d.doc); err != nil {
		t.Errorf("%v", err)
	}
	delete(d.doc["info"].(map[string]any), "title")
	if s.Validate(d.doc) == nil {
		t.Error("a document without a title is taken, so that nothing is checked")
	}
}

func TestEveryFrameIsInTheSocketDocument(t *testing.T) {
	t.Parallel()
	d := readSocketDoc(t)
	for _, typ := range event.Types {
		if d.toClient[typ] == "" {
			t.Errorf("asyncapi.yaml lacks %s among sendToClient's messages", typ)
		}
	}
	used := map[string]bool{}
	for _, frames := range []map[string]string{d.toClient, d.toServ} {
		for typ, key := range frames {
			used[key] = true
			if got := dig(d.doc, "components", "messages", key, "payload", "properties", "type", "const"); got != typ {
				t.Errorf("the payload of %s has the type %v", typ, got)
			}
		}
	}
	for key := range dig(d.doc, "components", "messages").(map[string]any) {
		if !used[key] {
			t.Errorf("no operation has the message %s", key)
		}
	}
}

func TestFramesAndExamplesFitTheSocketDocument(t *testing.T) {
	t.Parallel()
	d := readSocketDoc(t)
	files, err := filepath.Glob(filepath.Join("..", "..", "realtime", "wire", "testdata", "frames", "*.json"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d goldens: %v", len(files), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		frame, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := d.fits(t, d.toClient[dig(frame, "type").(string)], frame); err != nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
	for key, m := range dig(d.doc, "components", "messages").(map[string]any) {
		examples, _ := dig(m, "examples").([]any)
		for _, e := range examples {
			if err := d.fits(t, key, dig(e, "payload")); err != nil {
				t.Errorf("the example of %s: %v", key, err)
			}
		}
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "events.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)<!-- client: \\w+ -->\n```json\n(.*?)```").FindAllSubmatch(page, -1) {
		frame, err := jsonschema.UnmarshalJSON(bytes.NewReader(m[1]))
		if err != nil {
			t.Fatal(err)
		}
		typ := dig(frame, "type").(string)
		if d.toServ[typ] == "" {
			t.Errorf("docs/events.md shows %s, which asyncapi.yaml lacks", typ)
		} else if err := d.fits(t, d.toServ[typ], frame); err != nil {
			t.Errorf("docs/events.md's %s: %v", typ, err)
		}
	}
}

// The two documents describe the same objects: a member of one must be in the other.
func TestTheDocumentsAgreeOnObjects(t *testing.T) {
	t.Parallel()
	rest := readRESTDoc(t)
	d := readSocketDoc(t)
	for _, name := range []string{"User", "Member", "Message", "Conversation", "Presence", "Problem"} {
		here := members(d.doc, name)
		there := members(rest, name)
		if len(there) == 0 {
			t.Errorf("openapi.yaml has no %s", name)
		}
		for _, m := range there {
			if !slices.Contains(here, m) {
				t.Errorf("%s has %s in openapi.yaml, but not in asyncapi.yaml", name, m)
			}
		}
	}
}

func readRESTDoc(t *testing.T) any {
	t.Helper()
	b, err := apidoc.JSON()
	if err != nil {
		t.Fatal(err)
	}
	rest, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return rest
}

// members are the properties of a document's schema, with those of the schemas that it refers to.
func members(doc any, name string) (out []string) {
	var add func(s any)
	add = func(s any) {
		if ref, ok := dig(s, "$ref").(string); ok {
			add(dig(doc, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...))
		}
		for k := range asMap(dig(s, "properties")) {
			out = append(out, k)
		}
		list, _ := dig(s, "allOf").([]any)
		for _, part := range list {
			add(part)
		}
	}
	add(dig(doc, "components", "schemas", name))
	return out
}

// A message is described with exactly the members that it is encoded with, in both documents.
func TestAMessageIsDescribedWhole(t *testing.T) {
	t.Parallel()
	encoded := jsonMembers(reflect.TypeFor[chat.Message]())
	slices.Sort(encoded)
	for name, doc := range map[string]any{"openapi.yaml": readRESTDoc(t), "asyncapi.yaml": readSocketDoc(t).doc} {
		described := members(doc, "Message")
		slices.Sort(described)
		if !slices.Equal(described, encoded) {
			t.Errorf("%s describes %v, and a message has %v", name, described, encoded)
		}
	}
}

// jsonMembers are the names under which a struct's fields are encoded.
func jsonMembers(of reflect.Type) (out []string) {
	for field := range of.Fields() {
		if field.Anonymous {
			out = append(out, jsonMembers(field.Type)...)
		} else if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "-" {
			out = append(out, name)
		}
	}
	return out
}

func asMap(v any) map[string]any {
	m, _ := v.(map[string]any)
	return m
}

func TestThePageOfFramesIsWhole(t *testing.T) {
	t.Parallel()
	page, err := apidoc.FramesPage()
	if err != nil {
		t.Fatal(err)
	}
	for _, typ := range event.Types {
		if !bytes.Contains(page, []byte("<code>"+typ+"</code></h3>")) {
			t.Errorf("the page lacks %s", typ)
		}
	}
}
