// Package timestamp formats times for clients: RFC 3339 in UTC with microseconds, which is the precision of Postgres.
package timestamp

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"time"

	"github.com/parley-chat/parley/internal/cursor"
)

// Time is a time.Time that is encoded so.
type Time struct {
	time.Time
}

// MarshalJSON writes the time in UTC with six digits of a second.
func (t Time) MarshalJSON() ([]byte, error) {
	b := make([]byte, 0, len(cursor.TimeFormat)+2)
	b = append(b, '"')
	b = t.UTC().AppendFormat(b, cursor.TimeFormat)
	return append(b, '"'), nil
}

// UnmarshalJSON reads any RFC 3339 time.
func (t *Time) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &t.Time) }

// Scan reads a timestamptz.
func (t *Time) Scan(v any) error {
	at, ok := v.(time.Time)
	if !ok {
		return fmt.Errorf("timestamp: cannot scan a %T", v)
	}
	t.Time = at.UTC()
	return nil
}

// Value writes a timestamptz.
func (t Time) Value() (driver.Value, error) { return t.Time, nil }
