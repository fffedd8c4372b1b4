package webhook

import (
	"context"
	"log/slog"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

// hintsKept is the largest number of conversations that are remembered. If there are more, the dispatcher polls instead.
const hintsKept = 500

// Hints are the conversations with events that api pods have published since takeHints was last called. The pods publish these events
// to each other in any case, so hints cost them nothing. Hints only make deliveries faster: Redis may lose any of them, polls find the
// same changes, and events are read from Postgres.
type Hints struct {
	listener *redisconn.Listener
	outage   *observe.Outage
	wake     chan struct{} // holds one element while there is anything to take

	mu            sync.Mutex // guards the following fields
	conversations map[string]bool
	more          bool // conversations that are not in the map may have changed
	heard         bool // the subscription is confirmed
}

// NewHints makes hints, which need their Run.
func NewHints(rdb redis.UniversalClient, log *slog.Logger) *Hints {
	h := &Hints{wake: make(chan struct{}, 1), conversations: map[string]bool{},
		outage: observe.NewOutage(log, "redis brings no hints of changes; they are looked for more often", "redis brings hints of changes again")}
	h.listener = &redisconn.Listener{Client: rdb, Pattern: rediskey.ConversationChannels, OnHeard: h.onHeard, OnLost: h.onLost}
	return h
}

// Run listens until ctx ends. On a cluster there are no hints, because pods publish to sharded channels, which have no pattern subscriptions.
func (h *Hints) Run(ctx context.Context) error {
	if _, cluster := h.listener.Client.(*redis.ClusterClient); cluster {
		<-ctx.Done()
		return nil
	}
	h.listener.Run(ctx)
	return nil
}

func (h *Hints) onHeard(m any) {
	switch m := m.(type) {
	case *redis.Subscription:
		h.outage.End()
		h.mu.Lock()
		h.heard, h.more = true, true // events may have been published before the subscription
		h.mu.Unlock()
	case *redis.Message:
		conversationID, ok := rediskey.ParseConversationChannel(m.Channel)
		if !ok || !id.Valid(conversationID) {
			return
		}
		h.mu.Lock()
		if len(h.conversations) < hintsKept {
			h.conversations[conversationID] = true
		} else {
			h.more = true
		}
		h.mu.Unlock()
	}
	h.signal()
}

func (h *Hints) onLost(err error) {
	h.outage.Note(err)
	h.mu.Lock()
	h.heard = false
	h.mu.Unlock()
	h.signal() // the next poll is due earlier
}

func (h *Hints) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// hearing reports whether hints arrive.
func (h *Hints) hearing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard
}

// takeHints removes and returns the conversations. more is set if others may have changed too.
func (h *Hints) takeHints() (conversationIDs []string, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	conversationIDs = make([]string, 0, len(h.conversations))
	for c := range h.conversations {
		conversationIDs = append(conversationIDs, c)
	}
	more = h.more
	clear(h.conversations)
	h.more = false
	return conversationIDs, more
}
