package httpapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"
)

// calls records the calls of fake domains. Safe for concurrent use.
type calls struct {
	mu   sync.Mutex
	list []string
}

// add records a call, with its arguments as brief writes them.
func (c *calls) add(name string, args ...any) {
	words := []string{name}
	for _, a := range args {
		words = append(words, brief(reflect.ValueOf(a)))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, strings.Join(words, " "))
}

// take returns the calls so far, and forgets them.
func (c *calls) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := c.list
	c.list = nil
	return out
}

// brief writes a value for a comparison: of structs the exported fields that are not zero, of pointers what they point to.
func brief(v reflect.Value) string {
	if !v.IsValid() {
		return "nil"
	}
	switch x := v.Interface().(type) {
	case time.Time:
		return x.UTC().Format(time.RFC3339)
	case time.Duration:
		return x.String()
	case json.RawMessage:
		return string(x)
	}
	switch v.Kind() { //nolint:exhaustive // all others are written by fmt
	case reflect.Pointer:
		if v.IsNil() {
			return "nil"
		}
		return brief(v.Elem())
	case reflect.Slice:
		return briefList(v)
	case reflect.Struct:
		return briefStruct(v)
	}
	return fmt.Sprint(v.Interface())
}

func briefList(v reflect.Value) string {
	var items []string
	for i := range v.Len() {
		items = append(items, brief(v.Index(i)))
	}
	return "[" + strings.Join(items, " ") + "]"
}

func briefStruct(v reflect.Value) string {
	if set := v.FieldByName("Set"); set.IsValid() { // a jsonbody.Optional
		if v.FieldByName("Null").Bool() {
			return "null"
		}
		return brief(v.FieldByName("Value"))
	}
	var fields []string
	for i := range v.NumField() {
		switch f := v.Type().Field(i); {
		case !f.IsExported() || v.Field(i).IsZero():
		case f.Anonymous:
			fields = append(fields, strings.Trim(brief(v.Field(i)), "{}"))
		default:
			fields = append(fields, f.Name+":"+brief(v.Field(i)))
		}
	}
	return "{" + strings.Join(fields, " ") + "}"
}
