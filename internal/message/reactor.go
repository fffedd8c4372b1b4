package message

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/postgres"
)

const (
	// reactors is how many batches of reactions commit at once, each of up to maxReactions changes. maxReactionQueue bounds the
	// changes that wait: more are refused with ErrBusy.
	reactors         = 2
	maxReactions     = 1024
	maxReactionQueue = 8192
	// reactionPause is the pause between two commits of reactions to one message on this pod, so that many users who react at the same time
	// cause few revisions and frames. It is longer by perReaction for each change of the last commit, up to maxReactionPause. The first
	// reaction to a message waits only reactionGather, so that its commit includes others that arrive at the same time.
	reactionGather   = 2 * time.Millisecond
	reactionPause    = 250 * time.Millisecond
	perReaction      = time.Millisecond
	maxReactionPause = time.Second
)

// reactionChange is a change of a reaction that waits for its commit.
type reactionChange struct {
	messageID, userID, reaction string
	added                       bool
	entry                       *audit.Signed   // the audit log's, of a key that acts for the user; nil otherwise
	ctx                         context.Context //nolint:containedctx // of the request, for its trace
	done                        chan struct{}
	// replaced are earlier changes of the same reaction by the same user in the same batch. They get the same result.
	replaced []*reactionChange

	// Set before done is closed.
	outcome string
	result  ReactionResult
	err     error
}

func (c *reactionChange) finish(outcome string, result ReactionResult, err error) {
	for _, r := range append(c.replaced, c) {
		r.outcome, r.result, r.err = outcome, result, err
		close(r.done)
	}
}

// slot is a message with waiting changes, or in the pause after a commit.
type slot struct {
	waiting    []*reactionChange
	committing bool
	next       time.Time // when the next commit may begin
}

// Reactor commits reactions in batches. A batch has all changes that wait for a message, and those of other messages that may be committed too.
type Reactor struct {
	store     *Store
	publisher Publisher
	metrics   *Metrics
	moved     chan struct{} // something may be ready

	mu    sync.Mutex // guards the following fields
	pause time.Duration
	slots map[string]*slot
	count int // the number of waiting changes
}

// NewReactor makes a reactor. It needs its Run.
func NewReactor(store *Store, p Publisher, m *Metrics) *Reactor {
	return &Reactor{store: store, publisher: p, metrics: m, moved: make(chan struct{}, reactors), pause: reactionPause, slots: map[string]*slot{}}
}

// Run commits until ctx ends, and then the changes that are waiting.
func (r *Reactor) Run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	for range reactors {
		g.Go("reactor", func(ctx context.Context) error {
			r.commitReady(ctx)
			return nil
		})
	}
	return g.Wait()
}

func (r *Reactor) commitReady(ctx context.Context) {
	for {
		batch, wait := r.takeReady(time.Now(), ctx.Err() != nil)
		if len(batch) > 0 {
			r.commitTaken(batch)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-r.moved:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// submit queues a change and waits until its commit is done. A caller that gives up leaves the change to be committed or not.
func (r *Reactor) submit(ctx context.Context, c *reactionChange) error {
	if !r.add(c) {
		r.metrics.refused.Inc()
		return ErrBusy
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the commit: %w", ctx.Err())
	}
}

func (r *Reactor) add(c *reactionChange) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count >= maxReactionQueue {
		return false
	}
	s := r.slots[c.messageID]
	if s == nil {
		s = &slot{next: time.Now().Add(reactionGather)}
		r.slots[c.messageID] = s
	}
	s.waiting = append(s.waiting, c)
	r.count++
	r.wake()
	return true
}

func (r *Reactor) wake() {
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

// takeReady returns the changes that may be committed now; the caller must call releaseSlots afterwards. Without any it returns how long to wait for
// the next. hurry ignores pauses.
func (r *Reactor) takeReady(now time.Time, hurry bool) (batch []*reactionChange, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait = time.Hour
	for id, s := range r.slots {
		left := s.next.Sub(now)
		switch {
		case s.committing:
		case len(s.waiting) == 0: // nobody has to be woken for it
			if left <= 0 {
				delete(r.slots, id)
			}
			wait = min(wait, maxReactionPause)
		case left > 0 && !hurry:
			wait = min(wait, left)
		case len(batch) == 0 || len(batch)+len(s.waiting) <= maxReactions:
			n := min(len(s.waiting), maxReactions)
			batch = append(batch, latest(s.waiting[:n])...)
			s.waiting = append([]*reactionChange(nil), s.waiting[n:]...)
			s.committing = true
			r.count -= n
		default:
			wait = 0
		}
	}
	return batch, wait
}

// latest keeps the last change of each reaction by each user; earlier ones share its result.
func latest(changes []*reactionChange) []*reactionChange {
	at := map[[2]string]int{}
	out := make([]*reactionChange, 0, len(changes))
	for _, c := range changes {
		key := [2]string{c.userID, c.reaction}
		if i, ok := at[key]; ok {
			c.replaced = slices.Concat(out[i].replaced, out[i:i+1])
			out[i].replaced = nil
			out[i] = c
			continue
		}
		at[key] = len(out)
		out = append(out, c)
	}
	return out
}

func (r *Reactor) commitTaken(batch []*reactionChange) {
	defer r.releaseSlots(batch)
	defer func() { // runs before releaseSlots; finds unfinished changes only if the commit panicked
		for _, c := range batch {
			select {
			case <-c.done:
			default:
				c.finish("", ReactionResult{}, errPanicked)
			}
		}
	}()
	r.commit(batch)
}

// releaseSlots lets the batch's messages be committed again, after a pause.
func (r *Reactor) releaseSlots(batch []*reactionChange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sizes := map[string]int{}
	for _, c := range batch {
		sizes[c.messageID]++
	}
	for id, n := range sizes {
		s := r.slots[id]
		s.committing = false
		s.next = time.Now().Add(min(r.pause+time.Duration(n)*perReaction, maxReactionPause))
	}
	r.wake()
}

// commit stores a batch. If Postgres refuses it, nothing was stored. The two halves are then committed separately.
func (r *Reactor) commit(batch []*reactionChange) {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	rows, err := r.store.react(ctx, batch)
	if err != nil && len(batch) > 1 && postgres.IsRefused(err) && !errors.Is(err, context.DeadlineExceeded) {
		r.commit(batch[:len(batch)/2])
		r.commit(batch[len(batch)/2:])
		return
	}
	if err != nil {
		for _, c := range batch {
			c.finish("", ReactionResult{}, err)
		}
		return
	}
	fault.Point("reactions.committed")
	events := reacted(batch, rows)
	for i, c := range batch {
		c.finish(rows[i].outcome, rows[i].result, nil)
	}
	r.publisher.Publish(events...)
}
