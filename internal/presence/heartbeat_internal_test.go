package presence

import (
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/config"
)

// Each socket that opens wakes the heartbeat: in a storm of them it must not walk through all that are open each time.
func TestWhoOpensIsFoundWithoutLookingAtAll(t *testing.T) {
	t.Parallel()
	rdb := redis.NewClient(&redis.Options{})
	defer rdb.Close()
	h := NewHeartbeat(rdb, nil, config.Presence{TTL: time.Minute}, NewHeartbeatMetrics(prometheus.NewRegistry()), slog.New(slog.DiscardHandler), nil)
	due := func(now time.Time) string {
		ids := ""
		for _, c := range h.due(now) {
			ids += c.id
		}
		return ids
	}
	start := time.Now()
	h.Opened("u", "d", "a")
	h.Opened("u", "d", "b")
	if got := due(start); got != "ab" {
		t.Errorf("first %q, want all", got)
	}
	h.Opened("u", "d", "c")
	h.Opened("u", "d", "e")
	h.Closed("e")
	if got := due(start.Add(time.Millisecond)); got != "c" {
		t.Errorf("at once after %q, want only who opened and is open", got)
	}
	if got := due(start.Add(lookEvery)); got != "abc" {
		t.Errorf("at the next look %q, want all that are due", got)
	}
	h.Opened("u", "d", "f")
	h.renewAll()
	if got := due(start.Add(lookEvery + time.Millisecond)); got != "abcf" {
		t.Errorf("after Redis forgot %q, want all", got)
	}
}
