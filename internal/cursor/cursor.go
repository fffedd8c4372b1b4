// Package cursor encodes and decodes the opaque positions of Parley's lists: base64 of the JSON array [time, id] of the
// last item of a page. Times are RFC 3339 in UTC with microseconds, which is what Postgres keeps.
package cursor

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/parley-chat/parley/internal/id"
)

// TimeFormat is how Parley writes a time for clients.
const TimeFormat = "2006-01-02T15:04:05.000000Z"

// maxLen bounds what is decoded at all: a cursor of ours has 92 characters.
const maxLen = 128

// ErrMalformed is returned for what is not a cursor of Parley's.
var ErrMalformed = errors.New("malformed cursor")

// Position is a place in a list: just after the item with this time and id.
type Position struct {
	Time time.Time
	ID   string
}

// Encode writes a position, without padding, in the URL-safe alphabet.
func Encode(p Position) string {
	b := make([]byte, 0, len(TimeFormat)+id.Len+len(`["",""]`))
	b = append(b, `["`...)
	b = p.Time.UTC().AppendFormat(b, TimeFormat)
	b = append(b, `","`...)
	b = append(b, p.ID...)
	b = append(b, `"]`...)
	return base64.RawURLEncoding.EncodeToString(b)
}

var toURLAlphabet = strings.NewReplacer("+", "-", "/", "_")

// Decode reads a position in either alphabet of base64, padded or not. Anything that does not decode to exactly
// [time, id] is ErrMalformed.
func Decode(s string) (Position, error) {
	if s == "" || len(s) > maxLen {
		return Position{}, ErrMalformed
	}
	s = toURLAlphabet.Replace(s)
	raw, err := decodeBase64(s)
	if err != nil {
		return Position{}, ErrMalformed
	}
	var parts []string
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&parts); err != nil || len(parts) != 2 || d.InputOffset() != int64(len(raw)) {
		return Position{}, ErrMalformed
	}
	at, err := time.Parse(TimeFormat, parts[0])
	if err != nil || at.Format(TimeFormat) != parts[0] || at.Year() < 1 || !id.Valid(parts[1]) {
		return Position{}, ErrMalformed
	}
	return Position{Time: at, ID: parts[1]}, nil
}

func decodeBase64(s string) ([]byte, error) {
	if strings.HasSuffix(s, "=") {
		return base64.URLEncoding.Strict().DecodeString(s)
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}
