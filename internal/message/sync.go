package message

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/invalid"
	"github.com/parley-chat/parley/internal/journal"
)

// Bounds of one sync.
const (
	maxSyncConversations = 500
	maxSyncMessages      = 100
	maxSyncBytes         = 1 << 20
)

// SyncRequest names the conversations that a client holds, each with the revision it holds.
type SyncRequest struct {
	Conversations map[string]int64 `json:"conversations"`
}

// Check notes the request's faults.
func (r *SyncRequest) Check(f *invalid.Faults) {
	if len(r.Conversations) > maxSyncConversations {
		f.Add("conversations", "must have %d members at most", maxSyncConversations)
	}
	for k, v := range r.Conversations {
		if !id.Valid(k) || v < 0 {
			f.Add("conversations", "must map ids of conversations to revisions")
		}
	}
}

// SyncAnswer brings a client's copy up to what the database holds.
type SyncAnswer struct {
	Conversations map[string]*SyncPart `json:"conversations"`
	// Unknown are conversations of the client's that it did not name, Gone those that it can no longer see.
	Unknown []string `json:"unknown"`
	Gone    []string `json:"gone"`
}

// SyncPart is what is new in one conversation.
type SyncPart struct {
	// Messages are those that are new or changed, the oldest change first.
	Messages     []json.RawMessage `json:"messages"`
	Conversation json.RawMessage   `json:"conversation,omitempty"`
	// Revision is where to ask again.
	Revision int64 `json:"revision"`
	// Complete is unset where more is to be had.
	Complete bool `json:"complete"`
}

// Objects is what Sync needs to show a conversation to one of its members.
type Objects interface {
	// Object reads a conversation as the viewer sees it, nil where the viewer is no member.
	Object(ctx context.Context, conversationID, viewerID string) (*chat.Conversation, error)
	// Memberships reads the viewer's conversations with the revision of each.
	Memberships(ctx context.Context, userID string) (map[string]int64, error)
}

// Syncer answers syncs.
type Syncer struct {
	feed    *journal.Feed
	store   *Store
	objects Objects
}

// NewSyncer makes a syncer.
func NewSyncer(f *journal.Feed, s *Store, o Objects) *Syncer {
	return &Syncer{feed: f, store: s, objects: o}
}

// Sync reads what is new since what the client holds, in parts of bounded size.
func (s *Syncer) Sync(ctx context.Context, userID string, r *SyncRequest) (*SyncAnswer, error) {
	mine, err := s.objects.Memberships(ctx, userID)
	if err != nil {
		return nil, err
	}
	a := &SyncAnswer{Conversations: map[string]*SyncPart{}, Unknown: []string{}, Gone: []string{}}
	for k := range mine {
		if _, named := r.Conversations[k]; !named {
			a.Unknown = append(a.Unknown, k)
		}
	}
	slices.Sort(a.Unknown)
	budget := maxSyncBytes
	for _, k := range slices.Sorted(maps.Keys(r.Conversations)) {
		held := r.Conversations[k]
		if _, member := mine[k]; !member {
			a.Gone = append(a.Gone, k)
			continue
		}
		part, err := s.part(ctx, k, userID, held, mine[k], &budget)
		if errors.Is(err, ErrConversationNotFound) {
			a.Gone = append(a.Gone, k)
			continue
		}
		if err != nil {
			return nil, err
		}
		a.Conversations[k] = part
	}
	return a, nil
}

// part answers for one conversation, within what is left of the budget. A revision that was never reached comes from a
// database that has since been restored: the client starts from nothing.
func (s *Syncer) part(ctx context.Context, conversationID, userID string, held, current int64, budget *int) (*SyncPart, error) {
	if held > current {
		held = 0
	}
	part := &SyncPart{Messages: []json.RawMessage{}, Revision: held, Complete: held == current}
	if part.Complete || *budget <= 0 {
		return part, nil
	}
	found, current, err := s.feed.Changed(ctx, conversationID, userID, held, maxSyncMessages+1)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, ErrConversationNotFound
	}
	if err != nil {
		return nil, err
	}
	if err := s.store.addMine(ctx, s.store.db.SQL, userID, found); err != nil {
		return nil, err
	}
	for i, m := range found {
		b, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encode a message: %w", err)
		}
		if *budget -= len(b) + 1; i == maxSyncMessages || *budget < 0 {
			return part, nil
		}
		part.Messages = append(part.Messages, b)
		part.Revision = m.Revision
	}
	return part, s.finish(ctx, part, conversationID, userID, current, budget)
}

// finish completes a part whose messages are all there with the conversation itself.
func (s *Syncer) finish(ctx context.Context, part *SyncPart, conversationID, userID string, current int64, budget *int) error {
	c, err := s.objects.Object(ctx, conversationID, userID)
	if err != nil {
		return err
	}
	if c == nil {
		return ErrConversationNotFound
	}
	c.Revision = current // a later change is told by its own event
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode a conversation: %w", err)
	}
	if *budget -= len(b); *budget < 0 {
		part.Revision = min(part.Revision, current-1) // so that the next answer brings the conversation
		return nil
	}
	part.Conversation, part.Revision, part.Complete = b, current, true
	return nil
}
