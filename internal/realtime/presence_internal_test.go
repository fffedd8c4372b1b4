package realtime

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parley-chat/parley/internal/event"
)

// unreadable are presences that can't be read.
type unreadable struct {
	Presences

	err error
}

func (u unreadable) Read(context.Context, string, []string) ([]event.Presence, error) {
	return nil, u.err
}

type nobodys struct{}

func (nobodys) MembershipsOf(context.Context, []string) ([]map[string]int64, error) { return nil, nil }

// A subscription that failed leaves nothing that the session subscribed to: a friend is watched as a friend alone, and counts no further.
func TestASubscriptionThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	presences := unreadable{err: errors.New("no Redis")}
	h := NewHub(HubConfig{
		Memberships: nobodys{}, Channels: NewChannels(), Presence: presences, Metrics: NewMetrics(prometheus.NewRegistry()),
	})
	s := &Session{hub: h}
	w := h.watches
	w.sessions[s] = &watching{own: map[string]bool{}, peers: map[string]bool{}}
	w.add(s, []string{"friend"}, false)
	w.add(s, []string{"before"}, true)
	h.channels.setDown(true)
	if err := s.Subscribe(t.Context(), []string{"friend", "before", "stranger"}, nil); !errors.Is(err, presences.err) {
		t.Fatalf("subscribe: %v, want %v", err, presences.err)
	}
	x := w.sessions[s]
	if len(x.own) != 1 || !x.own["before"] || w.users["stranger"] != nil || w.users["friend"] == nil {
		t.Errorf("after a failed subscription: own %v, watched %v", x.own, w.users)
	}
}

// forgetful is the presence of a Redis that has lost its memory.
type forgetful struct{ Presences }

func (forgetful) States(_ context.Context, users []string) ([]event.PresenceState, error) {
	return make([]event.PresenceState, len(users)), nil
}

// A user who was shown as online is not reported offline because Redis, which was unavailable before the state was first read, has
// lost its memory: the user's pod registers the socket again. After a while the user is.
func TestAUserWhoWasShownAsOnlineIsNotOfflineAtOnce(t *testing.T) {
	t.Parallel()
	h := NewHub(HubConfig{Memberships: nobodys{}, Channels: NewChannels(), Presence: forgetful{}, Metrics: NewMetrics(prometheus.NewRegistry())})
	w, s := h.watches, &Session{hub: h}
	w.sessions[s] = &watching{own: map[string]bool{}, peers: map[string]bool{}}
	w.activate(s, w.add(s, []string{"a"}, true), []event.Presence{{UserID: "a", Status: event.StatusOnline}})
	a := w.users["a"]
	if err := w.read(t.Context(), []string{"a"}); err != nil || a.known || a.lostAt.IsZero() {
		t.Errorf("at once: %+v, %v", a, err)
	}
	a.lostAt = a.lostAt.Add(-lostFor)
	if err := w.read(t.Context(), []string{"a"}); err != nil || !a.known || a.state.Online {
		t.Errorf("after a while: %+v, %v", a, err)
	}
}
