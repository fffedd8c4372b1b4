package jsonbody

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf16"
)

// flaw says what is wrong with a value that encoding/json would accept and change: it replaces half a surrogate pair by U+FFFD, which
// makes different texts equal, and takes the last of doubled members. It is empty if nothing is. raw is valid JSON.
func flaw(raw json.RawMessage) string {
	switch {
	case halfPair(raw):
		return "must not contain half of a surrogate pair"
	case doubledInside(raw):
		return "must not have a member twice"
	}
	return ""
}

// halfPair reports whether an escape is a surrogate without its other half.
func halfPair(raw []byte) bool {
	for i := bytes.IndexByte(raw, '\\'); i >= 0 && i+1 < len(raw); {
		r, n := escapeAt(raw[i:])
		if utf16.IsSurrogate(r) {
			low, m := escapeAt(raw[i+n:])
			if m == 0 || utf16.DecodeRune(r, low) == '\uFFFD' {
				return true
			}
			n += m
		}
		i += n
		next := bytes.IndexByte(raw[i:], '\\')
		if next < 0 {
			return false
		}
		i += next
	}
	return false
}

// escapeAt is the escape that b begins with: the code unit of a \u escape, 0 for another, and its length, 0 if there is none.
func escapeAt(b []byte) (r rune, n int) {
	if len(b) < 2 || b[0] != '\\' {
		return 0, 0
	}
	if b[1] != 'u' || len(b) < 6 {
		return 0, 2
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	if err != nil {
		return 0, 2
	}
	return rune(v), 6
}

// doubledInside reports whether an object at any level of raw has a member twice. It visits each byte once, whatever the depth.
func doubledInside(raw []byte) bool {
	if bytes.IndexByte(raw, '{') < 0 {
		return false
	}
	var open []map[string]bool // the names of each open object; nil for a list
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '{':
			open = append(open, map[string]bool{})
		case '[':
			open = append(open, nil)
		case '}', ']':
			open = open[:len(open)-1]
		case '"':
			n := length(raw[i:])
			after := blank(raw[i+n:])
			if len(after) > 0 && after[0] == ':' {
				name, _ := String(json.RawMessage(raw[i : i+n]))
				names := open[len(open)-1]
				if names[name] {
					return true
				}
				names[name] = true
			}
			i += n - 1
		}
	}
	return false
}
