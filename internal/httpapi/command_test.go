package httpapi

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"type":"ping"}`:                    "ping",
		`{"type":"ping","id":"1","data":{}}`: "ping",
		`{"type":"ping","more":1}`:           "ping",
		`{"type":""}`:                        "",
		`{"type":"ping"`:                     "bad",
		`{"Type":"ping"}`:                    "bad",
		`[]`:                                 "bad",
		`{"type":"ping"} {"type":"ping"}`:    "bad",
		`{"type":"ping","id":7}`:             "ping with a fault",
		`{"type":"ping","id":"` + strings.Repeat("x", 65) + `"}`: "ping with a fault",
	} {
		c, err := parse([]byte(in))
		got := c.kind
		switch {
		case errors.Is(err, errBadFrame):
			got = "bad"
		case err != nil:
			got += " with a fault"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"type":"message:send","id":"1","data":{"content":"x"}}`))
	f.Add([]byte(`{"type":"sync","data":{"conversations":{}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parse(b)
		if err != nil {
			return
		}
		if !json.Valid(b) || !utf8.Valid(b) || utf8.RuneCountInString(c.id) > maxFrameID {
			t.Fatalf("%q parses as %+v", b, c)
		}
		var in sendData
		_ = decodeData(c.data, &in)
	})
}
