package jsonbody_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/jsonbody"
)

// unknownKeys is an object of n different keys that no input has.
func unknownKeys(n int) []byte {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"k%06d":0`, i)
	}
	b.WriteByte('}')
	return []byte(b.String())
}

// An object is answered by some of its faults, so that a body of many unknown keys costs no more than to read it.
func TestFaultsAreBounded(t *testing.T) {
	t.Parallel()
	err := jsonbody.Decode(unknownKeys(20_000), &body{})
	var f *invalid.Faults
	if !errors.As(err, &f) || len(f.List()) != invalid.MaxFaults {
		t.Fatalf("%d faults, want %d", len(f.List()), invalid.MaxFaults)
	}
	if first := f.List()[0]; first.Field != "name" {
		t.Errorf("the first fault is of %q, want the known field that is missing", first.Field)
	}
	long := strings.Repeat("é", 100_000)
	err = jsonbody.Decode([]byte(`{"name":"Zoe","`+long+`":1}`), &body{})
	if !errors.As(err, &f) || len(f.List()) != 1 || len(f.List()[0].Field) > 4*65 {
		t.Errorf("a key of %d bytes is repeated in full", len(long))
	}
}

// shapes are objects that grow with n, each of a kind that could make a reader go over the same bytes again.
var shapes = map[string]func(n int) []byte{
	"unknown keys": unknownKeys,
	"one key again and again": func(n int) []byte {
		return []byte(`{"name":"Zoe"` + strings.Repeat(`,"name":"Zoe"`, n) + `}`)
	},
	"an unknown key again and again": func(n int) []byte {
		return []byte(`{"name":"Zoe"` + strings.Repeat(`,"more":1`, n) + `}`)
	},
	"escaped keys": func(n int) []byte {
		return []byte(`{"name":"Zoe"` + strings.Repeat(`,"\u006dore":"\\\""`, n) + `}`)
	},
	"blanks": func(n int) []byte {
		return []byte(strings.Repeat(" ", n) + `{"name"` + strings.Repeat("\n", n) + `:"Zoe"}`)
	},
	"quotes": func(n int) []byte { return []byte(`{"name":"` + strings.Repeat(`\"`, n) + `"}`) },
	"deep lists": func(n int) []byte {
		return []byte(`{"names":` + strings.Repeat("[", n/8) + strings.Repeat("]", n/8) + `}`)
	},
	"a long list": func(n int) []byte {
		return []byte(`{"name":"Zoe","names":["a"` + strings.Repeat(`,"a"`, n) + `]}`)
	},
	"marks": func(n int) []byte { return []byte(`{"name":"e` + strings.Repeat("\u0301\u0323", n) + `"}`) },
}

// What an object costs doubles with its size and no more. Memory is counted, not time: see TestFaultsAreBounded for what is
// compared without allocating.
//
//nolint:paralleltest // it counts the process's allocations
func TestTheCostIsLinear(t *testing.T) {
	cost := func(in []byte) float64 {
		return testing.AllocsPerRun(3, func() { _ = jsonbody.Decode(in, &body{}) })
	}
	for name, shape := range shapes {
		small, large := cost(shape(4_000)), cost(shape(8_000))
		if large > 2*small+32 {
			t.Errorf("%s: %.0f allocations, twice the size %.0f", name, small, large)
		}
	}
}
