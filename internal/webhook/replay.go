package webhook

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/timestamp"
)

// maxReplays is how many replays of an endpoint may be incomplete at once.
const maxReplays = 10

// Period is what a replay delivers once more: the events that were committed from From until Until, both included.
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

// Replay is a period that is being delivered once more.
type Replay struct {
	ID    string         `json:"id"`
	From  timestamp.Time `json:"from"`
	Until timestamp.Time `json:"until"`
	// Conversation is the id of the only conversation, nil for all.
	Conversation *string        `json:"conversation"`
	CreatedAt    timestamp.Time `json:"createdAt"`
}

// Replay has the dispatchers deliver a period once more, beside what is live. It returns ErrNotFound for an endpoint that does not exist,
// ErrTooManyReplays, and *invalid.Faults for a conversation that does not exist. Calling it twice delivers twice.
func (s *Service) Replay(ctx context.Context, endpointID string, p *Period) (Replay, error) {
	return s.store.insertReplay(ctx, endpointID, id.New(), p)
}

// replays makes the places of an endpoint's replays, and leases those that are due.
func (d *Dispatcher) replays(ctx context.Context, e *endpointRow) (claimed []work, failed error) {
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
