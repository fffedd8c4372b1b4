package observe

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"
)

// While a dependency is unavailable a warning per request comes to one line a minute, with the number of the others.
func TestWarningsThatRepeatAreLeftOut(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var b bytes.Buffer
	log := newLogger(&b, "api", "json", slog.LevelInfo, func() time.Time { return now })
	lines := func() []map[string]any {
		var out []map[string]any
		for line := range bytes.Lines(b.Bytes()) {
			var r map[string]any
			if err := json.Unmarshal(line, &r); err != nil {
				t.Fatal(err)
			}
			out = append(out, r)
		}
		b.Reset()
		return out
	}
	for range 1200 { // two minutes at ten a second
		log.With("type", "send").Warn("a frame could not be carried out", "error", errors.New("x"))
		now = now.Add(100 * time.Millisecond)
	}
	got := lines()
	if len(got) != 2 || got[0]["left_out"] != nil || got[1]["left_out"] != 599.0 {
		t.Fatalf("%d lines: %v", len(got), got)
	}
	log.Warn("another")
	log.Error("a frame could not be carried out")
	log.Error("a frame could not be carried out")
	log.Info("a frame could not be carried out")
	if got := lines(); len(got) != 4 {
		t.Errorf("%d lines of other messages and levels: %v", len(got), got)
	}
	now = now.Add(quietAfter + time.Second)
	log.Warn("a frame could not be carried out")
	if got := lines(); len(got) != 1 || got[0]["left_out"] != 599.0 {
		t.Errorf("after a pause: %v", got)
	}
}

func TestRememberedWarningsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRepeats(time.Now)
	for i := range 10 * repeatedMessages {
		if _, ok := r.admit(string(rune('a' + i))); !ok {
			t.Fatalf("message %d is left out", i)
		}
	}
	if len(r.seen) > repeatedMessages {
		t.Errorf("%d are remembered", len(r.seen))
	}
}
