package webhook

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/timestamp"
)

// maxReplays is the largest number of incomplete replays of an endpoint.
const maxReplays = 10

// Period selects the events that a replay delivers again: those that were committed from From to Until, both included.
type Period struct {
	From timestamp.Time `json:"from"`
	// Until is now if it is absent or later than now.
	Until *timestamp.Time `json:"until,omitempty"`
	// Conversation is an id, or "ext:" and an external id; nil for all conversations, users and friends.
	Conversation *string `json:"conversation,omitempty"`
}

// Check adds the period's faults.
func (p *Period) Check(f *invalid.Faults) {
	switch {
	case p.From.IsZero():
		f.Add("from", "is required")
	case p.From.After(time.Now()):
		f.Add("from", "must not be in the future")
	case p.Until != nil && p.Until.Before(p.From.Time):
		f.Add("until", "must not be before from")
	}
	if p.Conversation != nil && *p.Conversation == "" {
		f.Add("conversation", "must be the id of a conversation, or ext: and its external id")
	}
}

// Replay is a period whose events are being delivered again.
type Replay struct {
	ID    string         `json:"id"`
	From  timestamp.Time `json:"from"`
	Until timestamp.Time `json:"until"`
	// Conversation is the id of the only conversation that is replayed, nil for all.
	Conversation *string        `json:"conversation"`
	CreatedAt    timestamp.Time `json:"createdAt"`
}

// Replay makes the dispatchers deliver a period again, concurrently with live events. It returns ErrNotFound for an endpoint that does not
// exist, ErrTooManyReplays, or *invalid.Faults for a conversation that does not exist. Calling it twice delivers twice.
func (s *Service) Replay(ctx context.Context, endpointID string, p *Period) (Replay, error) {
	return s.store.insertReplay(ctx, endpointID, id.New(), p)
}

// claimDueReplays makes places for an endpoint's replays, leases those that are due, and removes complete replays.
func (d *Dispatcher) claimDueReplays(ctx context.Context, e *endpointRow) (claimed []work, failed error) {
	if !e.replays {
		return nil, nil
	}
	for more := true; more && ctx.Err() == nil; {
		var err error
		more, err = d.places.expand(ctx, e.id)
		failed = errors.Join(failed, err)
	}
	claimed, err := d.places.claimReplays(ctx, e, replaySlots)
	failed = errors.Join(failed, err)
	complete, err := d.places.completeReplays(ctx, e.id)
	for _, r := range complete {
		d.log.InfoContext(ctx, "a replay is complete", "webhook", e.name, "replay", r)
	}
	return claimed, errors.Join(failed, err)
}
