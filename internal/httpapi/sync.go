package httpapi

import (
	"context"

	"github.com/parley-chat/parley/internal/message"
	"github.com/parley-chat/parley/internal/ratelimit"
)

const (
	// syncSlots is how many syncs a pod processes at once. Others wait, so that connections to Postgres are free for sends.
	syncSlots = 8
	// syncUnit is how many bytes of a response cost as much as one conversation of the request.
	syncUnit = 32 << 10
)

// slots bounds the concurrent operations of one kind: its capacity is their number.
type slots chan struct{}

// begin waits for a slot. It returns false if ctx ends first; otherwise the caller has to call end.
func (s slots) begin(ctx context.Context) bool {
	select {
	case s <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (s slots) end() { <-s }

// guardSync charges a sync to its user's bucket: one for each conversation that it names, at least one.
func (s *Server) guardSync(ctx context.Context, userID string, conversations int) error {
	if s.Limits.Sync.Off() {
		return nil
	}
	v := s.Limiter.AllowOne(ctx, ratelimit.Take{Rule: ruleSync, Subject: "user:" + userID, Rate: s.Limits.Sync, Cost: max(conversations, 1)})
	if !v.Allowed {
		return &limited{v.RetryAfter}
	}
	return nil
}

// chargeSync charges a long response to the same bucket. If the bucket has less, it is emptied: the response is sent in any case.
func (s *Server) chargeSync(ctx context.Context, userID string, a *message.SyncAnswer) {
	if s.Limits.Sync.Off() || a == nil {
		return
	}
	size := 0
	for _, part := range a.Conversations {
		for _, m := range part.Messages {
			size += len(m)
		}
	}
	take := ratelimit.Take{Rule: ruleSync, Subject: "user:" + userID, Rate: s.Limits.Sync, Cost: size / syncUnit}
	if take.Cost == 0 {
		return
	}
	if v := s.Limiter.AllowOne(ctx, take); !v.Allowed && v.Remaining > 0 {
		take.Cost = v.Remaining
		s.Limiter.AllowOne(ctx, take)
	}
}
