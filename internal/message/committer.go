package message

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/fault"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/observe"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/timestamp"
	"github.com/parley-chat/parley/internal/tracing"
)

// Publisher publishes committed events to all pods. It never waits for Redis: pods repair lost events.
type Publisher interface {
	Publish(events ...*event.Event)
}

const (
	// committers is the largest number of concurrent commits, each of up to maxBatch messages. maxQueue bounds the waiting sends: further
	// ones are refused with ErrBusy.
	committers = 2
	maxBatch   = 64
	maxQueue   = 2048
	// patience is how long a commit may take before a second one may start.
	patience = 50 * time.Millisecond
)

// errPanicked is returned to the senders of a commit that panicked. For clients it is an ordinary 500.
var errPanicked = errors.New("the commit panicked")

// pending is a send that waits for its commit.
type pending struct {
	conversationID, senderID, id string
	draft                        *Draft
	lane                         *Lane           // nil for a send on its own
	at                           *time.Time      // for tests, nil otherwise
	ctx                          context.Context //nolint:containedctx // of the request, for its trace
	done                         chan struct{}

	// Set before done is closed.
	message chat.Message
	outcome string
	err     error
}

// Committer stores messages in batches: sends that arrive during a commit form the next batch, and a send that arrives while no commit
// is running is committed at once (docs/adr/0006).
type Committer struct {
	store     *Store
	publisher Publisher
	notify    func(*event.Notice)
	log       *slog.Logger
	metrics   *Metrics
	queue     *queue
}

// NewCommitter makes a committer. It needs its Run. notify reports a sender's read marker to the sender's other sockets, if the send
// marked messages of others as read; nil for nothing.
func NewCommitter(store *Store, p Publisher, notify func(*event.Notice), log *slog.Logger, m *Metrics) *Committer {
	if notify == nil {
		notify = func(*event.Notice) {}
	}
	return &Committer{store: store, publisher: p, notify: notify, log: log, metrics: m, queue: newQueue()}
}

// Run commits until ctx ends, and then the sends that are queued.
func (c *Committer) Run(ctx context.Context) error {
	g := lifecycle.NewGroup(ctx)
	for range committers {
		g.Go("committer", func(ctx context.Context) error {
			c.commitLoop(ctx)
			return nil
		})
	}
	return g.Wait()
}

func (c *Committer) commitLoop(ctx context.Context) {
	buf := make([]*pending, 0, maxBatch)
	for {
		batch, again := c.queue.takeBatch(buf, ctx.Err() != nil)
		if batch != nil {
			c.commitTaken(batch)
			clear(batch)
			continue
		}
		if ctx.Err() != nil {
			return // the other committer commits the remaining sends after its present batch
		}
		wait := time.NewTimer(again)
		select {
		case <-c.queue.moved:
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// abandon completes the sends of a batch that have no result yet, with an error. A client that repeats such a send gets the stored message
// if there is one.
func abandon(batch []*pending) {
	for _, p := range batch {
		select {
		case <-p.done:
		default:
			p.err = errPanicked
			close(p.done)
		}
	}
}

func (c *Committer) commitTaken(batch []*pending) {
	defer c.queue.done(batch)
	defer abandon(batch) // runs first, if the commit panics
	for _, p := range batch {
		p.id = id.New()
	}
	c.commit(batch)
	c.metrics.queue.Set(float64(c.queue.len()))
}

// submit queues a send without waiting for its commit. It returns ErrBusy if the queue is full.
func (c *Committer) submit(ctx context.Context, p *pending) error {
	p.ctx = ctx
	p.done = make(chan struct{})
	if !c.queue.add(p) {
		c.metrics.refused.Inc()
		return ErrBusy
	}
	return nil
}

// await waits until the send's commit has ended, successfully or not. If ctx ends first, the send may still be committed: the client repeats it
// with the same clientMessageId.
func (p *pending) await(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the commit: %w", ctx.Err())
	}
}

// commit stores a batch. If Postgres refuses it, nothing was stored. The two halves are then committed separately, so that only the faulty send
// fails.
func (c *Committer) commit(batch []*pending) {
	err := c.commitOnce(batch)
	switch {
	case err == nil:
	case len(batch) > 1 && postgres.IsRefused(err):
		half := len(batch) / 2
		c.commit(batch[:half])
		c.commit(batch[half:])
	case postgres.IsUniqueViolation(err, clientMessageIDKey): // another statement stored the same clientMessageId meanwhile
		c.finish(batch[0], sendRow{outcome: outcomeDuplicate})
	default:
		for _, p := range batch {
			p.err = err
			close(p.done)
		}
	}
}

// commitOnce tries a batch in one statement, and completes its sends unless that fails.
func (c *Committer) commitOnce(batch []*pending) error {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	ctx, span := tracing.Batch(ctx, "commit messages", len(batch), func(i int) trace.Span { return trace.SpanFromContext(batch[i].ctx) })
	defer span.End()
	start := time.Now()
	rows, err := c.store.send(ctx, batch)
	observe.Exemplar(c.metrics.batchSeconds, time.Since(start).Seconds(), tracing.IDOf(ctx))
	if err != nil {
		return err
	}
	fault.Point("message.committed")
	c.metrics.batchSize.Observe(float64(len(batch)))
	events := make([]*event.Event, 0, len(batch))
	for i, p := range batch {
		if e := c.finish(p, rows[i]); e != nil {
			events = append(events, e)
		}
	}
	c.metrics.accepted.Add(float64(len(events)))
	c.publisher.Publish(events...)
	c.notifySenders(batch, rows)
	return nil
}

// notifySenders reports the new read markers of senders who had unread messages of others. For other senders the event of the message is
// enough: it means that its sender has read up to it.
func (c *Committer) notifySenders(batch []*pending, rows []sendRow) {
	if !slices.ContainsFunc(rows, func(r sendRow) bool { return r.behind }) {
		return
	}
	last := map[string]int64{}
	for i, p := range batch {
		last[p.conversationID] = max(last[p.conversationID], rows[i].seq)
	}
	for i, p := range batch {
		if r := rows[i]; r.outcome == outcomeStored && r.behind {
			marker := chat.Marker{LastReadSeq: r.seq, UnreadCount: last[p.conversationID] - r.seq}
			c.notify(event.ReadNotice(p.senderID, p.draft.socketID, event.ConversationRead{ConversationID: p.conversationID, Marker: marker}).In(p.ctx))
		}
	}
}

// finish completes a send. It returns the event of the stored message, nil if nothing was stored.
func (c *Committer) finish(p *pending, r sendRow) (e *event.Event) {
	p.outcome = r.outcome
	if r.outcome == outcomeStored {
		p.message = chat.Message{
			ID: p.id, ConversationID: p.conversationID, Seq: r.seq, Revision: r.revision, SenderID: p.senderID,
			Content: p.draft.Content, ClientMessageID: p.draft.ClientMessageID, ReplyToID: p.draft.ReplyToID,
			CreatedAt: timestamp.Time{Time: r.createdAt},
		}
		p.message.Metadata, p.message.Mentions = p.draft.Metadata, p.draft.Mentions.shown()
		p.message.Attachments = r.attachments
		if k := p.draft.keyed; k != nil {
			p.message.Kind = k.kind
		}
		e = event.MessageNew(&p.message).In(p.ctx)
		if k := p.draft.keyed; k != nil {
			e.Actor.KeyID = k.keyID
		}
	}
	close(p.done)
	return e
}
