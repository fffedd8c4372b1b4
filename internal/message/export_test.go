package message

import (
	"context"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/id"
)

// PagingQueries are the statements whose plans a test pins.
var PagingQueries = map[string]struct {
	SQL  string
	Args func(conversationID string, at time.Time, id string) []any
	Cond string
}{
	"history":     {historySQL, func(c string, at time.Time, id string) []any { return []any{c, 50, at, id} }, "ROW(created_at, id) <"},
	"after a seq": {afterSeqSQL, func(c string, _ time.Time, _ string) []any { return []any{c, 50, 100} }, "seq >"},
}

// SendSQL is the statement that stores a batch, whose plan a test pins.
func SendSQL() string { return sendSQL }

// ReactSQL are the statements that store a batch of reactions, by name, whose plans a test pins.
var ReactSQL = map[string]string{"lock_reacted": lockReactedSQL, "react": reactSQL}

// Together is one send of a batch.
type Together struct {
	Conversation, Sender string
	Draft                *Draft
}

// SendTogether sends a batch, and answers what became of each.
func (s *Service) SendTogether(ctx context.Context, sends []Together) (seqs []int64, errs []error) {
	batch := make([]*pending, len(sends))
	for i, x := range sends {
		batch[i] = &pending{conversationID: x.Conversation, senderID: x.Sender, draft: x.Draft, id: id.New(), ctx: ctx, done: make(chan struct{})}
	}
	s.committer.commit(batch)
	for _, p := range batch {
		<-p.done
		m, _, err := s.answer(ctx, p)
		seqs, errs = append(seqs, m.Seq), append(errs, err)
	}
	return seqs, errs
}

// SetPause changes the pause between two commits of reactions to one message.
func (r *Reactor) SetPause(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pause = d
}

// Reacting is one change of a batch.
type Reacting struct {
	Message, User, Reaction string
	Added                   bool
}

// ReactTogether commits a batch of changes, and returns the outcome and the result of each.
func (s *Service) ReactTogether(ctx context.Context, changes []Reacting) (outcomes []string, results []ReactionResult, err error) {
	batch := make([]*reactionChange, len(changes))
	for i, x := range changes {
		batch[i] = &reactionChange{messageID: x.Message, userID: x.User, reaction: x.Reaction, added: x.Added, ctx: ctx, entry: audit.OfRequest(ctx)}
	}
	rows, err := s.store.react(ctx, batch)
	for _, r := range rows {
		outcomes, results = append(outcomes, r.outcome), append(results, r.result)
	}
	return outcomes, results, err
}
