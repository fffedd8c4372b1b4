package event_test

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/internal/event"
)

func TestPresenceFrames(t *testing.T) {
	t.Parallel()
	seen := time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC).UnixMicro()
	for _, c := range []struct {
		frame event.Frame
		want  string
	}{
		{event.PresenceOnline(anna), `{"type":"presence:online","data":{"userId":"` + anna + `","lastSeenAt":null}}`},
		{event.PresenceOffline(anna, event.At(seen)), `{"type":"presence:offline","data":{"userId":"` + anna + `","lastSeenAt":"2026-11-23T10:00:00.123456Z"}}`},
		{event.PresenceOffline(anna, event.At(0)), `{"type":"presence:offline","data":{"userId":"` + anna + `","lastSeenAt":null}}`},
	} {
		if got := string(payload(t, c.frame)); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestPresenceNewsComeThrough(t *testing.T) {
	t.Parallel()
	for _, n := range []event.PresenceNews{{Recheck: true}, {PresenceState: event.PresenceState{Version: 1795531724087291, Online: true, Seen: 1795531724087290}}} {
		got, err := event.DecodePresence(n.Encode())
		if err != nil || got != n {
			t.Errorf("%+v came as %+v, %v", n, got, err)
		}
	}
	if _, err := event.DecodePresence([]byte("x")); err == nil {
		t.Error("what is no news was read")
	}
}
