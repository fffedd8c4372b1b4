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

// hintsKept is how many conversations are remembered. A poll takes their place if there are more.
const hintsKept = 500

// Hints are the conversations of which api pods have published events since a dispatcher looked last. The pods publish them for each other
// anyway, so hints cost them nothing. They are for speed alone: Redis may lose any of them, and what they name is read from Postgres.
type Hints struct {
	listener *redisconn.Listener
	outage   *observe.Outage
	wake     chan struct{} // holds one element while a dispatcher has something to look at

	mu            sync.Mutex // guards the following fields
	conversations map[string]bool
	more          bool // there were more than are kept
	heard         bool // the subscription is confirmed
}

// NewHints makes hints, which need their Run.
func NewHints(rdb redis.UniversalClient, log *slog.Logger) *Hints {
	h := &Hints{wake: make(chan struct{}, 1), conversations: map[string]bool{},
		outage: observe.NewOutage(log, "redis brings no hints of changes; they are looked for more often", "redis brings hints of changes again")}
	h.listener = &redisconn.Listener{Client: rdb, Pattern: rediskey.ConversationChannels, OnHeard: h.onHeard, OnLost: h.onLost}
	return h
}

// Run listens until ctx ends. On a cluster there are no hints: pods publish to sharded channels, which no pattern matches.
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
		h.heard, h.more = true, true // what was published before is not known
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

// takeHints returns the conversations and forgets them. more is set if there were others.
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
