package timestamp_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/timestamp"
)

// Clients get every time in one form: UTC, with exactly six digits of a second, whatever the zone and the digits it has here.
func TestTimesHaveOneForm(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("east", 2*60*60)
	for want, at := range map[string]time.Time{
		`"2026-01-02T03:04:05.000000Z"`: time.Date(2026, 1, 2, 5, 4, 5, 0, east),
		`"2026-01-02T03:04:05.120000Z"`: time.Date(2026, 1, 2, 3, 4, 5, 120_000_000, time.UTC),
		`"2026-01-02T03:04:05.000001Z"`: time.Date(2026, 1, 2, 3, 4, 5, 1_999, time.UTC), // cut, not rounded, as Postgres compares it
	} {
		b, err := json.Marshal(timestamp.Time{Time: at})
		if err != nil || string(b) != want {
			t.Errorf("%s is %s, want %s, %v", at, b, want, err)
		}
		var back timestamp.Time
		if err := json.Unmarshal(b, &back); err != nil || !back.Equal(at.Truncate(time.Microsecond)) {
			t.Errorf("%s is read as %s, %v", b, back, err)
		}
	}
	var at timestamp.Time
	for _, s := range []string{`"yesterday"`, `5`, `"2026-01-02"`} {
		if err := json.Unmarshal([]byte(s), &at); err == nil {
			t.Errorf("%s is read as %s", s, at)
		}
	}
}

func TestOnlyTimesAreScanned(t *testing.T) {
	t.Parallel()
	var at timestamp.Time
	now := time.Now()
	if err := at.Scan(now.In(time.FixedZone("east", 3600))); err != nil || !at.Equal(now) || at.Location() != time.UTC {
		t.Errorf("scanned as %s, %v", at, err)
	}
	if v, err := at.Value(); err != nil || v != any(at.Time) {
		t.Errorf("written as %v, %v", v, err)
	}
	for _, v := range []any{nil, "2026-01-02T03:04:05Z", int64(5)} {
		if err := at.Scan(v); err == nil {
			t.Errorf("a %T is scanned", v)
		}
	}
}
