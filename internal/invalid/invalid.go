// Package invalid collects the faults of an input, so that a client gets all of them at once.
package invalid

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Fault is one thing that is wrong with one field.
type Fault struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// MaxFaults is how many faults an input's error names at most. It bounds the size of the answer, and what each further
// fault costs.
const MaxFaults = 20

// maxField is how many code points of a field's name, which a client may have made up, are repeated to the client.
const maxField = 64

// Faults is an error: an input with at least one fault. The zero value is ready to collect.
type Faults struct {
	list []Fault
}

// Add notes a fault of a field. Only the first fault of a field is kept, and only the first MaxFaults fields.
func (f *Faults) Add(field, format string, args ...any) {
	if f.Full() {
		return
	}
	field = shorten(field)
	if !f.Has(field) {
		f.list = append(f.list, Fault{field, fmt.Sprintf(format, args...)})
	}
}

// Full reports whether further faults would be dropped.
func (f *Faults) Full() bool { return len(f.list) >= MaxFaults }

// shorten cuts a field's name to maxField code points.
func shorten(field string) string {
	if len(field) <= maxField {
		return field
	}
	n := 0
	for i := range field {
		if n++; n > maxField {
			return field[:i] + "…"
		}
	}
	return field
}

// Has reports whether the field has a fault already.
func (f *Faults) Has(field string) bool {
	for _, x := range f.list {
		if x.Field == field {
			return true
		}
	}
	return false
}

// List returns the collected faults in the order of their addition.
func (f *Faults) List() []Fault { return f.list }

// Err returns the faults as an error, or nil if there is none.
func (f *Faults) Err() error {
	if len(f.list) == 0 {
		return nil
	}
	return f
}

// Error lists the fields and their faults, without the values.
func (f *Faults) Error() string {
	var b strings.Builder
	b.WriteString("invalid input")
	for i, x := range f.list {
		sep := "; "
		if i == 0 {
			sep = ": "
		}
		fmt.Fprintf(&b, "%s%s %s", sep, x.Field, x.Message)
	}
	return b.String()
}

// One is an input with a single fault.
func One(field, format string, args ...any) error {
	var f Faults
	f.Add(field, format, args...)
	return &f
}

// Text is a rule for a piece of text. Lengths are in Unicode code points.
type Text struct {
	Min, Max int
	// Trim is for names: white space is removed from both ends before measuring, and characters that reorder text are refused.
	Trim bool
	// Lines is for text of several lines: \n and \t are allowed.
	Lines bool
}

// Check normalises *s to NFC and checks it against the rule. A name or a text of several lines that must not be empty needs
// something to be seen.
func (r Text) Check(f *Faults, field string, s *string) {
	v := norm.NFC.String(*s)
	if r.Trim {
		v = strings.TrimSpace(v)
	}
	*s = v
	n := utf8.RuneCountInString(v)
	switch {
	case !utf8.ValidString(v):
		f.Add(field, "must be UTF-8")
	case strings.ContainsFunc(v, r.refused):
		f.Add(field, "must not contain control characters")
	case n < r.Min || n > r.Max:
		f.Add(field, "must have %d to %d characters", r.Min, r.Max)
	case r.Min > 0 && (r.Trim || r.Lines) && Blank(v):
		f.Add(field, "must not be only white space or invisible characters")
	}
}

// Storable reports whether Postgres can hold a text: UTF-8 without NUL.
func Storable(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

func (r Text) refused(c rune) bool {
	if r.Lines && (c == '\n' || c == '\t') {
		return false
	}
	return unicode.IsControl(c) || r.Trim && !r.Lines && unicode.Is(reordering, c)
}

// Blank reports whether a text has nothing visible: only white space, invisible characters, marks without a letter.
func Blank(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return !unicode.In(c, unicode.White_Space, unicode.C, unicode.M, fillers) })
}

// reordering are the characters that embed, override or isolate a direction of writing: within a name they make it read as
// another.
var reordering = &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x202a, Hi: 0x202e, Stride: 1}, {Lo: 0x2066, Hi: 0x2069, Stride: 1}}}

// fillers are letters and symbols that are drawn as nothing.
var fillers = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x115f, Hi: 0x1160, Stride: 1}, // Hangul fillers
	{Lo: 0x2800, Hi: 0x2800, Stride: 1}, // the blank pattern of Braille
	{Lo: 0x3164, Hi: 0x3164, Stride: 1}, // Hangul filler
	{Lo: 0xffa0, Hi: 0xffa0, Stride: 1}, // halfwidth Hangul filler
}}
