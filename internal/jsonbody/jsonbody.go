// Package jsonbody decodes the JSON objects that clients send, over REST and over sockets, more strictly than
// encoding/json does: keys match by exact case, unknown and doubled keys are faults, and an object's faults, up to
// invalid.MaxFaults, are reported together. The time that it takes is linear in the size of the input, whatever the input
// holds: TestTheCostIsLinear guards that.
package jsonbody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/timestamp"
)

// ErrMalformed is returned for an input that is not a single JSON object in UTF-8.
var ErrMalformed = errors.New("not a JSON object")

// Checker is an input that knows its own rules. Check normalises it and notes its faults; fields that could not be
// decoded have a fault already, and a second one for them is dropped.
type Checker interface {
	Check(f *invalid.Faults)
}

// Optional is a field that may be absent, null or a value, where these mean three different things.
type Optional[T any] struct {
	Set   bool
	Null  bool
	Value T
}

// UnmarshalJSON notes that the field was there.
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	o.Set = true
	if string(b) == "null" {
		o.Null = true
		return nil
	}
	return json.Unmarshal(b, &o.Value)
}

// Decode reads one object into dst, a pointer to a flat struct whose fields have json tags, and checks it. A field
// without the tag option omitempty is required. It returns ErrMalformed or *invalid.Faults.
func Decode(data []byte, dst Checker) error {
	members, err := Members(data)
	if err != nil {
		return err
	}
	faults := &invalid.Faults{}
	assign(reflect.ValueOf(dst).Elem(), members, faults)
	dst.Check(faults)
	return faults.Err()
}

// Object is a parsed JSON object: its members in their order, with values that alias the input.
type Object []member

type member struct {
	name string
	raw  json.RawMessage
	used bool
}

// Get is the value of a member, by exact case, the last of those that are doubled.
func (o Object) Get(name string) (raw json.RawMessage, ok bool) {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].name == name {
			return o[i].raw, true
		}
	}
	return nil, false
}

// Doubled reports whether a member is given more than once.
func (o Object) Doubled() bool {
	seen := make(map[string]bool, len(o))
	for _, m := range o {
		if seen[m.name] {
			return true
		}
		seen[m.name] = true
	}
	return false
}

// Members parses one object without interpreting its values. It returns ErrMalformed for an input that is not a single JSON object
// in UTF-8.
func Members(data []byte) (Object, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	if !json.Valid(data) {
		return nil, fmt.Errorf("%w: not JSON", ErrMalformed)
	}
	// From here on data is known to be JSON, which makes walking through it as simple as this.
	data = blank(data)
	if data[0] != '{' {
		return nil, ErrMalformed
	}
	out := make(Object, 0, 4)
	for data = blank(data[1:]); data[0] != '}'; {
		n := length(data)
		name, ok := String(data[:n])
		if !ok {
			return nil, ErrMalformed
		}
		data = blank(blank(data[n:])[1:]) // the colon
		n = length(data)
		out = append(out, member{name: name, raw: json.RawMessage(data[:n:n])})
		if data = blank(data[n:]); data[0] == ',' {
			data = blank(data[1:])
		}
	}
	return out, nil
}

// String decodes a JSON string; ok is false if raw is not a string.
func String(raw json.RawMessage) (s string, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// itemList is the type of a list whose items are decoded one by one, each with its own faults.
var itemList = reflect.TypeFor[[]json.RawMessage]()

// blank skips white space.
func blank(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// length is that of the value that b begins with.
func length(b []byte) int {
	const blanks, ends = " \t\r\n,:", " \t\r\n,]}"
	for i, depth := 0, 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		case strings.IndexByte(blanks, c) >= 0: // within an object or a list
		default: // a number or a word
			for i+1 < len(b) && strings.IndexByte(ends, b[i+1]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return len(b)
}

func assign(v reflect.Value, members Object, faults *invalid.Faults) {
	for i := range v.NumField() {
		name, opts, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		found := false
		for k := range members {
			if m := &members[k]; m.name == name {
				if found {
					faults.Add(name, "is given twice")
				}
				found, m.used = true, true
			}
		}
		if raw, ok := members.Get(name); ok {
			set(v.Field(i), raw, name, faults)
		} else if opts != "omitempty" {
			faults.Add(name, "is required")
		}
	}
	for i := range members {
		if faults.Full() {
			return
		}
		if !members[i].used {
			faults.Add(members[i].name, "is not known here")
		}
	}
}

func set(field reflect.Value, raw json.RawMessage, name string, faults *invalid.Faults) {
	if field.Type() != itemList {
		if wrong := flaw(raw); wrong != "" {
			faults.Add(name, "%s", wrong)
			return
		}
	}
	_, takesNull := field.Addr().Interface().(json.Unmarshaler)
	if string(raw) == "null" && !takesNull && field.Kind() != reflect.Pointer {
		faults.Add(name, "must be %s, not null", kindName(field.Type()))
		return
	}
	if text, ok := String(raw); ok && !takesNull {
		switch {
		case field.Kind() == reflect.String:
			field.SetString(text)
			return
		case field.Type() == reflect.TypeFor[*string]():
			field.Set(reflect.ValueOf(&text))
			return
		}
	}
	err := json.Unmarshal(raw, field.Addr().Interface())
	if err == nil {
		return
	}
	field.SetZero()
	var f *invalid.Faults
	if errors.As(err, &f) {
		for _, x := range f.List() {
			faults.Add(name+"."+x.Field, "%s", x.Message)
		}
		return
	}
	faults.Add(name, "must be %s", kindName(field.Type()))
}

func kindName(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		if f, ok := t.FieldByName("Value"); ok {
			t = f.Type
		}
	}
	if t == reflect.TypeFor[timestamp.Time]() {
		return "a time such as 2027-01-01T00:00:00Z"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list of strings"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	default:
		return "an object"
	}
}
