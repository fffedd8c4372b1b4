package cursor_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
)

const someID = "019ab2c3-1234-7abc-8def-0123456789ab"

func at(t *testing.T, s string) time.Time {
	t.Helper()
	v, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestDecodeTakesEveryAlphabetAndPadding(t *testing.T) {
	t.Parallel()
	want := cursor.Position{Time: at(t, "2026-11-23T10:00:00.123456Z"), ID: someID}
	raw := []byte(`["2026-11-23T10:00:00.123456Z","` + someID + `"]`)
	for name, s := range map[string]string{
		"ours":    cursor.Encode(want),
		"std":     base64.StdEncoding.EncodeToString(raw),
		"raw std": base64.RawStdEncoding.EncodeToString(raw),
		"url":     base64.URLEncoding.EncodeToString(raw),
		"raw url": base64.RawURLEncoding.EncodeToString(raw),
	} {
		got, err := cursor.Decode(s)
		if err != nil || got.ID != want.ID || !got.Time.Equal(want.Time) {
			t.Errorf("%s: Decode(%q) = %v, %v", name, s, got, err)
		}
	}
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// Malformed cursors, which the lists' tests use too in their own way.
func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	const good = `"2026-11-23T10:00:00.123456Z"`
	for name, s := range map[string]string{
		"empty":             "",
		"not base64":        "***",
		"not JSON":          b64("hello"),
		"an object":         b64(`{"t":1}`),
		"one part":          b64(`[` + good + `]`),
		"three parts":       b64(`[` + good + `,"` + someID + `","x"]`),
		"numbers":           b64(`[1,2]`),
		"null":              b64(`null`),
		"null parts":        b64(`[null,null]`),
		"bad time":          b64(`["yesterday","` + someID + `"]`),
		"milliseconds":      b64(`["2026-11-23T10:00:00.123Z","` + someID + `"]`),
		"nanoseconds":       b64(`["2026-11-23T10:00:00.123456789Z","` + someID + `"]`),
		"another zone":      b64(`["2026-11-23T10:00:00.123456+01:00","` + someID + `"]`),
		"bad id":            b64(`[` + good + `,"42"]`),
		"upper-case id":     b64(`[` + good + `,"` + strings.ToUpper(someID) + `"]`),
		"trailing text":     b64(`[` + good + `,"` + someID + `"] x`),
		"two arrays":        b64(`[` + good + `,"` + someID + `"][]`),
		"doubly encoded":    b64(b64(`[` + good + `,"` + someID + `"]`)),
		"SQL":               b64(`["' OR 1=1 --","` + someID + `"]`),
		"too long":          strings.Repeat("A", 5000),
		"broken padding":    b64(`["a"]`) + "=",
		"day that is not":   b64(`["2026-02-30T10:00:00.123456Z","` + someID + `"]`),
		"control character": "\x00",
	} {
		if p, err := cursor.Decode(s); err == nil {
			t.Errorf("%s: Decode(%q) = %v, want an error", name, s, p)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(cursor.Encode(cursor.Position{Time: time.Unix(0, 0), ID: someID}))
	f.Add("W10")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := cursor.Decode(s)
		if err != nil {
			return
		}
		again, err := cursor.Decode(cursor.Encode(p))
		if err != nil || !again.Time.Equal(p.Time) || again.ID != p.ID {
			t.Fatalf("%q decodes to %v, which comes back as %v, %v", s, p, again, err)
		}
	})
}

func TestLabelledPositionsComeThrough(t *testing.T) {
	t.Parallel()
	p := cursor.Position{Time: at(t, "2026-11-23T10:00:00.123456Z"), ID: someID}
	for _, label := range []string{"", "+1", `"]<&>`, "👍🏽", strings.Repeat("👨‍👩‍👧", 6), strings.Repeat("\x00", 32)} {
		got, err := cursor.DecodeLabelled(cursor.EncodeLabelled(cursor.Labelled{Position: p, Label: label}))
		if err != nil || got.Label != label || got.ID != p.ID || !got.Time.Equal(p.Time) {
			t.Errorf("%q came as %+v, %v", label, got, err)
		}
	}
	for name, s := range map[string]string{
		"nothing": "", "without a label": cursor.Encode(p), "a number": b64(`["2026-11-23T10:00:00.123456Z","` + someID + `",1]`),
		"another id": b64(`["2026-11-23T10:00:00.123456Z","x","+1"]`), "more": b64(`["2026-11-23T10:00:00.123456Z","` + someID + `","a","b"]`),
		"too long": cursor.EncodeLabelled(cursor.Labelled{Position: p, Label: strings.Repeat("x", 1000)}),
	} {
		if got, err := cursor.DecodeLabelled(s); !errors.Is(err, cursor.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := cursor.Decode(cursor.EncodeLabelled(cursor.Labelled{Position: p})); !errors.Is(err, cursor.ErrMalformed) {
		t.Errorf("a labelled position is taken for a plain one: %v", err)
	}
}
