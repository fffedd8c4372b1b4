package receipt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
	"github.com/parley-chat/parley/internal/timestamp"
)

// Notifier publishes to all pods: notices for one user, and events of a conversation. It never waits for Redis, and may
// be called concurrently.
type Notifier interface {
	Notify(n *event.Notice)
	Publish(events ...*event.Event)
}

// Members is the pod's own knowledge of members, without a query.
type Members interface {
	// Serves reports whether a socket of the user on this pod gets the conversation's events, which only members do.
	Serves(userID, conversationID string) bool
}

const (
	// readQueue bounds the reads that wait on a pod: more are refused with ErrBusy.
	readQueue = 1 << 13
	// maxLookUps is the largest number of reads in one lookup statement and one pipeline, maxWrites in one write statement.
	maxLookUps = 1024
	maxWrites  = 256
	// keepWait bounds one pipeline to Redis.
	keepWait = 2 * time.Second
	// probeEvery is how often Redis is probed while it is unavailable.
	probeEvery = 250 * time.Millisecond
)

// Service accepts reads on a pod and returns receipts. Its methods may be called concurrently; reads need Run.
type Service struct {
	store       *store
	buffer      *buffer
	known       *known
	senders     *senderFeed
	markers     *markerFeed
	notifier    Notifier
	metrics     *Metrics
	log         *slog.Logger
	divergences chan divergence
	redis       *redisconn.Breaker // open: reads of groups go to Postgres

	lookups *batch.Batcher[*request]
	writes  *batch.Batcher[*due]
}

// NewService makes the service, which needs its Run. memory and members serve reads while Postgres is unavailable; members is nil
// for a process without sockets. Frames report read markers in conversations of up to maxMembers members.
func NewService(db *sql.DB, rdb redis.UniversalClient, n Notifier, memory *Memory, members Members, maxMembers int, m *Metrics, log *slog.Logger) *Service {
	s := &Service{store: &store{db}, buffer: newBuffer(rdb), known: &known{memory, members}, notifier: n, metrics: m, log: log, divergences: make(chan divergence, 1)}
	s.redis = redisconn.NewBreaker(redisconn.BreakerConfig{
		// The probe writes, because a full Redis and a replica don't accept writes.
		Probe: func(ctx context.Context) error { return rdb.Set(ctx, rediskey.ReadProbe, "", probeEvery).Err() },
		Every: probeEvery, Wait: keepWait, Log: log,
		Opened: "redis does not accept reads; they go to postgres until it does", Closed: "redis accepts reads again",
	})
	s.senders = newSenderFeed(s.store, s.buffer, n, m, log)
	s.markers = newMarkerFeed(s.store, s.buffer, n, maxMembers, log)
	s.lookups = batch.New(readQueue, maxLookUps, s.lookUpBatch)
	s.writes = batch.New(readQueue, maxWrites, s.writeReads)
	return s
}

// Run processes reads until ctx ends, and then those that are queued.
func (s *Service) Run(ctx context.Context) error {
	var g errgroup.Group
	// Each part stops after the one before it, from which it gets its input: lookups, then writes, then the feeds.
	for _, part := range []struct {
		name string
		run  func(context.Context)
	}{{"lookups", s.lookups.Run}, {"writes", s.writes.Run}, {"senders", s.senders.run}, {"markers", s.markers.run}, {"probe", func(ctx context.Context) { _ = s.redis.Run(ctx) }}, {"histories", s.followHistories}} {
		mine := ctx
		next, stop := context.WithCancel(context.WithoutCancel(ctx))
		g.Go(func() error {
			defer stop()
			return lifecycle.Keep(mine, part.name, func(ctx context.Context) error {
				part.run(ctx)
				return nil
			})
		})
		ctx = next
	}
	return g.Wait()
}

// Read records that a user has read a message and all messages before it. socketID is the socket that sent the read, "" for
// none; it gets no conversation:read. Read returns once the read is stored: in Postgres or in Redis.
func (s *Service) Read(ctx context.Context, userID, messageID, socketID string) error {
	return s.submit(ctx, &request{userID: userID, messageID: messageID, socketID: socketID})
}

// ReadUpTo is Read for a message that must belong to the conversation.
func (s *Service) ReadUpTo(ctx context.Context, userID, conversationID string, u *UpTo) error {
	return s.submit(ctx, &request{userID: userID, messageID: u.UpToMessageID, in: conversationID})
}

// readAtOnce bounds the concurrent reads of one ReadMany.
const readAtOnce = 256

// ReadMany is ReadUpTo for many conversations, with one receipt each. It processes all of them even if one fails. It returns
// ErrNotFound if one of the named messages was not found.
func (s *Service) ReadMany(ctx context.Context, userID string, r *ReadMany) error {
	upTo := r.Conversations
	if r.All {
		var err error
		if upTo, err = s.store.unread(ctx, userID); err != nil {
			return err
		}
	}
	if err := s.auditMany(ctx, userID, upTo); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(readAtOnce)
	for conversationID, messageID := range upTo {
		g.Go(func() error {
			err := s.enqueue(ctx, &request{userID: userID, messageID: messageID, in: conversationID})
			if r.All && errors.Is(err, ErrNotFound) { // the user left the conversation, or it was deleted, after All was read
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

func (s *Service) submit(ctx context.Context, r *request) error {
	if audit.OfRequest(ctx) != nil {
		return s.readAudited(ctx, r)
	}
	return s.enqueue(ctx, r)
}

func (s *Service) enqueue(ctx context.Context, r *request) error {
	r.done = make(chan error, 1)
	if !s.lookups.Offer(r) {
		s.metrics.refused.Inc()
		return ErrBusy
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("wait for a read: %w", ctx.Err())
	}
}

// Receipts returns a page of a message's receipts as the viewer may see them, the earliest read first. While Redis is unavailable
// pending reads are missing. It returns ErrNotFound if the viewer is not a member.
func (s *Service) Receipts(ctx context.Context, viewerID, messageID string, after *cursor.Position, limit int) (Page, error) {
	v, err := s.store.view(ctx, messageID, viewerID)
	if err != nil {
		return Page{}, err
	}
	if !v.shows || v.deleted {
		return Page{Receipts: []Receipt{}}, nil
	}
	pending := s.pending(ctx, messageID) // before Postgres, so that a read that is flushed in between is found there
	return s.store.receipts(ctx, messageID, viewerID, pending, after, limit)
}

func (s *Service) pending(ctx context.Context, messageID string) []pendingReceipt {
	if s.redis.Open() {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	pending, err := s.buffer.readers(wait, messageID)
	if err != nil && ctx.Err() == nil {
		s.redis.Fail(err)
	}
	return pending
}

// Markers returns the user's markers that Postgres does not have yet, by conversation. Call it before reading those in Postgres.
// If Redis is unavailable it returns none.
func (s *Service) Markers(ctx context.Context, userID string) map[string]chat.PendingMarker {
	if s.redis.Open() {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	held, err := s.buffer.markers(wait, userID)
	if err != nil && ctx.Err() == nil {
		s.redis.Fail(err)
	}
	return held
}

func at(t time.Time) timestamp.Time { return timestamp.Time{Time: t.UTC()} }
