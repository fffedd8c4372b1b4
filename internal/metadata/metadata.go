// Package metadata holds the rules of the JSON object that a product attaches to a user, a conversation or a message:
// 4 KiB encoded at most, 32 keys over all levels, 4 levels, and keys of letters, digits, dots, dashes and underscores.
package metadata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/internal/invalid"
)

// Bounds of an object. Arrays count as levels, and the keys of every level count.
const (
	MaxBytes  = 4096
	MaxKeys   = 32
	MaxLevels = 4
	maxKeyLen = 64
)

// Object is an encoded JSON object, compact and with its keys in order; nil for none. An empty object is none.
type Object = json.RawMessage

// Check replaces *raw by its compact form with ordered keys, nil for an empty object, and adds a fault to f if it breaks a
// rule. nil and null pass as none.
func Check(f *invalid.Faults, field string, raw *Object) {
	v, ok := parse(f, field, *raw)
	if !ok {
		return
	}
	*raw = encode(v)
	checkSize(f, field, *raw)
}

// CheckPatch is Check for a merge patch (RFC 7396), in which null removes a key. A patch keeps its nulls.
func CheckPatch(f *invalid.Faults, field string, raw Object) {
	if v, ok := parse(f, field, raw); ok {
		checkSize(f, field, encode(v))
	}
}

// ErrTooLarge is returned by Merge if the result exceeds a bound although neither of its parts does.
var ErrTooLarge = errors.New("the merged metadata is too large")

// Merge applies a merge patch (RFC 7396) that passed CheckPatch to the stored object. The patch null clears everything.
func Merge(stored, patch Object) (Object, error) {
	if isNull(patch) {
		return nil, nil
	}
	var target, change any
	if len(stored) > 0 {
		if err := decodeNumbers(stored, &target); err != nil {
			return nil, fmt.Errorf("decode stored metadata: %w", err)
		}
	}
	if err := decodeNumbers(patch, &change); err != nil {
		return nil, fmt.Errorf("decode a metadata patch: %w", err)
	}
	merged, _ := merge(target, change).(map[string]any)
	var f invalid.Faults
	out := encode(merged)
	c := counter{faults: &f, field: "metadata"}
	c.walk(merged, 1)
	checkSize(&f, "metadata", out)
	if f.Err() != nil {
		return nil, fmt.Errorf("%w: %w", ErrTooLarge, f.Err())
	}
	return out, nil
}

func merge(target, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	out, ok := target.(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	for key, v := range changes {
		if v == nil {
			delete(out, key)
		} else {
			out[key] = merge(out[key], v)
		}
	}
	return out
}

func parse(f *invalid.Faults, field string, raw Object) (v map[string]any, ok bool) {
	if isNull(raw) {
		return nil, true
	}
	var decoded any
	if err := decodeNumbers(raw, &decoded); err != nil {
		f.Add(field, "must be a JSON object")
		return nil, false
	}
	v, ok = decoded.(map[string]any)
	if !ok {
		f.Add(field, "must be a JSON object")
		return nil, false
	}
	c := counter{faults: f, field: field}
	c.walk(v, 1)
	return v, !c.bad
}

func isNull(raw Object) bool { return len(raw) == 0 || string(bytes.TrimSpace(raw)) == "null" }

// decodeNumbers keeps numbers as they were written: 1e2 and 9007199254740993 come back unchanged.
func decodeNumbers(raw Object, v *any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(v)
}

func encode(v map[string]any) Object {
	if len(v) == 0 {
		return nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("metadata: decoded JSON that does not encode: %v", err))
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

func checkSize(f *invalid.Faults, field string, encoded Object) {
	if len(encoded) > MaxBytes {
		f.Add(field, "must have %d bytes at most", MaxBytes)
	}
}

// counter counts the keys and levels of an object and stops at the first fault.
type counter struct {
	faults *invalid.Faults
	field  string
	keys   int
	bad    bool
}

func (c *counter) walk(v any, level int) {
	switch v := v.(type) {
	case map[string]any:
		c.checkLevel(level)
		for key, inner := range v {
			c.checkKey(key)
			c.walkInner(inner, level)
		}
	case []any:
		c.checkLevel(level)
		for _, inner := range v {
			c.walkInner(inner, level)
		}
	case json.Number:
		if _, err := v.Float64(); err != nil {
			c.fail("must have numbers that fit into 64-bit floating point")
		}
	case string:
		if bytes.IndexByte([]byte(v), 0) >= 0 { // Postgres's jsonb has no NUL
			c.fail("must not contain NUL")
		}
	}
}

func (c *counter) walkInner(v any, level int) {
	if !c.bad {
		c.walk(v, level+1)
	}
}

func (c *counter) checkLevel(level int) {
	if level > MaxLevels {
		c.fail("must have %d levels at most", MaxLevels)
	}
}

func (c *counter) checkKey(key string) {
	if c.keys++; c.keys > MaxKeys {
		c.fail("must have %d keys at most", MaxKeys)
	}
	if !validKey(key) {
		c.fail("must have keys of 1 to %d of A-Z a-z 0-9 _ . -", maxKeyLen)
	}
}

func (c *counter) fail(format string, args ...any) {
	c.bad = true
	c.faults.Add(c.field, format, args...)
}

func validKey(key string) bool {
	if key == "" || len(key) > maxKeyLen {
		return false
	}
	for i := range len(key) {
		b := key[i]
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '_' && b != '.' && b != '-' {
			return false
		}
	}
	return true
}
