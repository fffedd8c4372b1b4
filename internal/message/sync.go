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
	minWindow            = 20
	maxEpoch             = 64
)

// SyncRequest names the conversations that a client holds, each with the revision it holds.
type SyncRequest struct {
	Conversations map[string]int64 `json:"conversations"`
	// Window is how many messages of a conversation a client shows, 20 to 100. If more were sent since the held revision, the response has only
	// the newest ones. nil requests all.
	Window *int64 `json:"window,omitempty"`
	// Only is set if the response must not have Unknown.
	Only bool `json:"only,omitempty"`
	// State is the revision of the user's own states that the client holds, nil if it does not request them.
	State *int64 `json:"state,omitempty"`
	// Epoch is the history of the revisions, "" if the client does not send it.
	Epoch string `json:"epoch,omitempty"`
}

// Check notes the request's faults.
func (r *SyncRequest) Check(f *invalid.Faults) {
	if len(r.Conversations) > maxSyncConversations {
		f.Add("conversations", "must have %d members at most", maxSyncConversations)
	}
	if r.Window != nil && (*r.Window < minWindow || *r.Window > maxSyncMessages) {
		f.Add("window", "must be a whole number from %d to %d", minWindow, maxSyncMessages)
	}
	if r.State != nil && *r.State < 0 {
		f.Add("state", "must be a revision")
	}
	if len(r.Epoch) > maxEpoch {
		f.Add("epoch", "must have %d characters at most", maxEpoch)
	}
	for k, v := range r.Conversations {
		if !id.Valid(k) || v < 0 {
			f.Add("conversations", "must map ids of conversations to revisions")
		}
	}
}

// SyncAnswer brings a client's copy up to date.
type SyncAnswer struct {
	Conversations map[string]*SyncPart `json:"conversations"`
	// Epoch is the history of the response, "" if unknown.
	Epoch string `json:"epoch,omitempty"`
	// Unknown are the user's conversations that the request did not name, Gone the named ones that the user can't see any more.
	Unknown []string `json:"unknown"`
	Gone    []string `json:"gone"`
	// State has the user's own states that changed, if the request has a State.
	State any `json:"state,omitempty"`
}

// SyncPart has the changes of one conversation.
type SyncPart struct {
	// Reset is set if Messages are the newest of the conversation, and not all changes since the held revision. The client has to drop its
	// copy.
	Reset bool `json:"reset,omitempty"`
	// Messages are the new and changed messages, the oldest change first.
	Messages     []json.RawMessage `json:"messages"`
	Conversation json.RawMessage   `json:"conversation,omitempty"`
	// Revision is the revision that the client holds after applying the part.
	Revision int64 `json:"revision"`
	// Complete is false if there are more changes: the client has to sync again.
	Complete bool `json:"complete"`
}

// Objects is the part of the conversation domain that Sync needs.
type Objects interface {
	// Object reads a conversation as the viewer sees it, nil if the viewer is not a member.
	Object(ctx context.Context, conversationID, viewerID string) (*chat.Conversation, error)
	// Memberships reads the viewer's conversations with the revision of each.
	Memberships(ctx context.Context, userID string) (map[string]int64, error)
	// ChangedStates reads the viewer's own states that changed since a revision.
	ChangedStates(ctx context.Context, userID string, held int64) (any, error)
}

// Syncer processes syncs. Safe for concurrent use.
type Syncer struct {
	feed    *journal.Feed
	store   *Store
	objects Objects
	epoch   func() string
}

// NewSyncer makes a syncer. epoch returns the identity of the history that the pod works with, "" if unknown.
func NewSyncer(f *journal.Feed, s *Store, o Objects, epoch func() string) *Syncer {
	return &Syncer{feed: f, store: s, objects: o, epoch: epoch}
}

// Sync reads the changes since the revisions that the client holds, in parts of bounded size.
func (s *Syncer) Sync(ctx context.Context, userID string, r *SyncRequest) (*SyncAnswer, error) {
	epoch := s.epoch()
	another := r.Epoch != "" && r.Epoch != epoch
	mine, err := s.objects.Memberships(ctx, userID)
	if err != nil {
		return nil, err
	}
	a := &SyncAnswer{Epoch: epoch, Conversations: map[string]*SyncPart{}, Unknown: r.unnamed(mine), Gone: []string{}}
	budget := maxSyncBytes
	for _, k := range slices.Sorted(maps.Keys(r.Conversations)) {
		held := r.Conversations[k]
		if _, member := mine[k]; !member {
			a.Gone = append(a.Gone, k)
			continue
		}
		var part *SyncPart
		var err error
		if another {
			part, err = s.resetPart(ctx, k, userID, r.Window, &budget)
		} else {
			part, err = s.part(ctx, k, userID, held, mine[k], r.Window, &budget)
		}
		if errors.Is(err, ErrConversationNotFound) {
			a.Gone = append(a.Gone, k)
			continue
		}
		if err != nil {
			return nil, err
		}
		a.Conversations[k] = part
	}
	if r.State != nil {
		held := *r.State
		if another {
			held = 0
		}
		if a.State, err = s.objects.ChangedStates(ctx, userID, held); err != nil {
			return nil, err
		}
	}
	if s.epoch() != epoch {
		return nil, ErrHistoryChanged
	}
	return a, nil
}

// unnamed returns the ids of the user's conversations that the request did not name, in ascending order; none with Only.
func (r *SyncRequest) unnamed(mine map[string]int64) []string {
	out := []string{}
	if r.Only {
		return out
	}
	for k := range mine {
		if _, named := r.Conversations[k]; !named {
			out = append(out, k)
		}
	}
	slices.Sort(out)
	return out
}

// resetPart returns the part of a conversation whose copy belongs to another history: the conversation with its newest messages, as many as the
// budget allows, possibly none.
func (s *Syncer) resetPart(ctx context.Context, conversationID, userID string, window *int64, budget *int) (*SyncPart, error) {
	limit := maxSyncMessages
	if window != nil {
		limit = int(*window)
	}
	if *budget <= 0 {
		limit = 0 // no message would fit: only the revision is read
	}
	found, current, err := s.feed.Latest(ctx, conversationID, userID, limit)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, ErrConversationNotFound
	}
	if err != nil {
		return nil, err
	}
	if err := s.store.addMine(ctx, s.store.db.SQL, userID, found); err != nil {
		return nil, err
	}
	part := &SyncPart{Reset: true, Messages: []json.RawMessage{}, Revision: current, Complete: true}
	for _, m := range slices.Backward(found) {
		b, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encode a message: %w", err)
		}
		if *budget -= len(b) + 1; *budget < 0 {
			break
		}
		part.Messages = append(part.Messages, b)
	}
	slices.Reverse(part.Messages)
	c, err := s.objects.Object(ctx, conversationID, userID)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, ErrConversationNotFound
	}
	c.Revision = current
	part.Conversation, err = json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode a conversation: %w", err)
	}
	*budget -= len(part.Conversation)
	return part, nil
}

// part returns the changes of one conversation since the held revision, as many as the remaining budget allows. A held revision beyond the present
// one comes from a database that was restored since: it counts as 0.
func (s *Syncer) part(ctx context.Context, conversationID, userID string, held, current int64, window *int64, budget *int) (*SyncPart, error) {
	if held > current {
		held = 0
	}
	part := &SyncPart{Messages: []json.RawMessage{}, Revision: held, Complete: held == current}
	if part.Complete || *budget <= 0 {
		return part, nil
	}
	if window != nil {
		newest, err := s.newest(ctx, conversationID, userID, held, int(*window), budget)
		if newest != nil || err != nil {
			return newest, err
		}
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

// newest returns the part of a conversation in which more messages were sent since the held revision than the window shows: the newest ones, as
// many as fit into a whole response. If the remaining budget is too small for that, the part is empty and not complete, so that the next
// response has it. It returns nil if no more messages were sent.
func (s *Syncer) newest(ctx context.Context, conversationID, userID string, held int64, window int, budget *int) (*SyncPart, error) {
	found, current, err := s.feed.Newest(ctx, conversationID, userID, held, window)
	if errors.Is(err, journal.ErrNotFound) {
		return nil, ErrConversationNotFound
	}
	if err != nil || found == nil {
		return nil, err
	}
	if err := s.store.addMine(ctx, s.store.db.SQL, userID, found); err != nil {
		return nil, err
	}
	part := &SyncPart{Reset: true, Messages: []json.RawMessage{}, Revision: held}
	whole := *budget
	for _, m := range slices.Backward(found) {
		b, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encode a message: %w", err)
		}
		if *budget-len(b)-1 < maxSyncBytes/4 { // keeps room for the conversation
			break
		}
		*budget -= len(b) + 1
		part.Messages = append(part.Messages, b)
	}
	slices.Reverse(part.Messages)
	if err := s.finish(ctx, part, conversationID, userID, current, budget); err != nil {
		return nil, err
	}
	if !part.Complete || len(part.Messages) < len(found) && whole < maxSyncBytes {
		// The next response has room for it: a budget of 0 ends this one.
		*budget = 0
		return &SyncPart{Messages: []json.RawMessage{}, Revision: held}, nil
	}
	return part, nil
}

// finish adds the conversation to a part that has all messages, and marks it complete if the budget allows.
func (s *Syncer) finish(ctx context.Context, part *SyncPart, conversationID, userID string, current int64, budget *int) error {
	c, err := s.objects.Object(ctx, conversationID, userID)
	if err != nil {
		return err
	}
	if c == nil {
		return ErrConversationNotFound
	}
	c.Revision = current // the object may be newer; the later change has its own revision and event
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode a conversation: %w", err)
	}
	if *budget -= len(b); *budget < 0 {
		part.Revision = min(part.Revision, current-1) // so that the next response has the conversation
		return nil
	}
	part.Conversation, part.Revision, part.Complete = b, current, true
	return nil
}
