package event_test

import (
	"testing"

	"github.com/parley-chat/parley/internal/event"
)

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
