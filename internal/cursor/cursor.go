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

// maxLen is the longest text that is decoded. Parley's own cursors have 92 characters.
const maxLen = 128

// maxLabelledLen is maxLen for a cursor with a label of up to 32 code points, each up to 12 bytes of JSON.
const maxLabelledLen = 768

// ErrMalformed is returned for a text that is not a cursor of Parley.
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

// Labelled is a position in a list in which one user may have several items of the same time, distinguished by a label.
type Labelled struct {
	Position
	Label string
}

// EncodeLabelled writes a position with its label, as Encode does: [time, id, label].
func EncodeLabelled(p Labelled) string {
	b, err := json.Marshal([]string{p.Time.UTC().Format(TimeFormat), p.ID, p.Label})
	if err != nil {
		panic(err) // strings always encode
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// DecodeLabelled decodes the text of EncodeLabelled. Errors are those of Decode.
func DecodeLabelled(s string) (Labelled, error) {
	parts, err := decodeParts(s, 3, maxLabelledLen)
	if err != nil {
		return Labelled{}, err
	}
	p, err := position(parts)
	return Labelled{p, parts[2]}, err
}

// Decode reads a position in either alphabet of base64, padded or not. Anything that does not decode to exactly
// [time, id] is ErrMalformed.
func Decode(s string) (Position, error) {
	parts, err := decodeParts(s, 2, maxLen)
	if err != nil {
		return Position{}, err
	}
	return position(parts)
}

// decodeParts decodes an array of n strings.
func decodeParts(s string, n, maxLen int) ([]string, error) {
	if s == "" || len(s) > maxLen {
		return nil, ErrMalformed
	}
	s = toURLAlphabet.Replace(s)
	raw, err := decodeBase64(s)
	if err != nil {
		return nil, ErrMalformed
	}
	var parts []string
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&parts); err != nil || len(parts) != n || d.InputOffset() != int64(len(raw)) {
		return nil, ErrMalformed
	}
	return parts, nil
}

func position(parts []string) (Position, error) {
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
