// Package jsonbody decodes the JSON objects that clients send, over REST and over sockets, more strictly than
// encoding/json does: keys match by exact case, unknown and doubled keys are faults, and all the faults of an object are
// told at once.
package jsonbody

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/parley-chat/parley/internal/invalid"
)

// ErrMalformed is returned for what is not one JSON object in UTF-8.
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
	members, faults, err := split(data)
	if err != nil {
		return err
	}
	assign(reflect.ValueOf(dst).Elem(), members, faults)
	dst.Check(faults)
	return faults.Err()
}

// Members takes one object apart into its members, by exact case, the last of those that are doubled. It returns
// ErrMalformed for what is not one JSON object in UTF-8.
func Members(data []byte) (map[string]json.RawMessage, error) {
	members, _, err := split(data)
	if err != nil {
		return nil, err
	}
	out := make(map[string]json.RawMessage, len(members))
	for k, m := range members {
		out[k] = m.raw
	}
	return out, nil
}

type member struct {
	raw  json.RawMessage
	used bool
}

// split takes an object apart without interpreting its values.
func split(data []byte) (map[string]*member, *invalid.Faults, error) {
	faults := &invalid.Faults{}
	if !utf8.Valid(data) {
		return nil, nil, fmt.Errorf("%w: not UTF-8", ErrMalformed)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, ErrMalformed
	}
	members := map[string]*member{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		key, _ := t.(string)
		m := &member{}
		if err := d.Decode(&m.raw); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if members[key] != nil {
			faults.Add(key, "is given twice")
		}
		members[key] = m
	}
	if _, err := d.Token(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, fmt.Errorf("%w: something follows it", ErrMalformed)
	}
	return members, faults, nil
}

func assign(v reflect.Value, members map[string]*member, faults *invalid.Faults) {
	for i := range v.NumField() {
		name, opts, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		if name == "" || name == "-" {
			continue
		}
		optional := opts == "omitempty"
		m := members[name]
		switch {
		case m == nil && !optional:
			faults.Add(name, "is required")
		case m == nil:
		default:
			m.used = true
			set(v.Field(i), m.raw, name, faults)
		}
	}
	for name, m := range members {
		if !m.used {
			faults.Add(name, "is not known here")
		}
	}
}

func set(field reflect.Value, raw json.RawMessage, name string, faults *invalid.Faults) {
	_, takesNull := field.Addr().Interface().(json.Unmarshaler)
	if string(raw) == "null" && !takesNull && field.Kind() != reflect.Pointer {
		faults.Add(name, "must be %s, not null", kindName(field.Type()))
		return
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
