package receipt

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/batch"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/cursor"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/lifecycle"
	"github.com/parley-chat/parley/internal/postgres"
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

// facts are the properties of a read's message, reader and conversation.
type facts struct {
	conversationID, senderID string
	seq                      int64
	// looked is set if the facts are from Postgres. If they are from memory (known.recall), only the fields above, deleted and shows are
	// set.
	looked                   bool
	direct, deleted, written bool
	shows, senderShows       bool
	blocked                  bool // in a direct conversation, by one of the two
	lastSeq, lastReadSeq     int64
	version                  int32 // of the reader's marker
	highSeq                  int64 // the marker's highest seq before it was moved back, 0 if it never was
	members                  int   // of the conversation
}

// anyVersion is the version for a read whose marker could not be looked up. It matches every version of the marker.
const anyVersion = -1

// markerVersion is the version of the marker that a read moves. Moving a marker back begins a new version, so a read of an
// older version does not move it forward again.
func (f *facts) markerVersion() int32 {
	if !f.looked {
		return anyVersion
	}
	return f.version
}

// A read passes three stages, each with a type. None of them changes after it was made; the request's channel done
// receives the result:
//
//	Read ──► request ──lookups──► due ──Redis or writes──► stored
//	 ▲          │ no change        │ refused                  │
//	 └──────────┴──────────────────┴──── done: the result ────┘
type (
	// request is a read that waits for its lookup.
	request struct {
		userID, messageID string
		in                string     // the conversation that the message must belong to, "" for any
		socketID          string     // the socket that sent it, "" for REST
		done              chan error // receives the result, once; it has room for it
	}
	// due is a read that has to be stored.
	due struct {
		*request
		facts
		receipt, marker bool // whether a receipt and a marker have to be written; one of them at least
	}
	// stored is a read that was stored in Redis or Postgres.
	stored struct {
		*due
		fresh, moved bool      // whether the receipt was new, and whether the marker moved
		readAt       time.Time // time of a new receipt in Postgres, otherwise zero
	}
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

// lookUpBatch looks up the facts of reads and routes them. Reads of groups are stored in Redis before the next batch is looked
// up, so that the reads that wait meanwhile share a statement and a pipeline.
func (s *Service) lookUpBatch(batch []*request) {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	found, lookErr := s.store.lookUpReads(ctx, batch)
	var keep []*due
	for i, r := range batch {
		f, err := s.factsOf(r, found[i], lookErr)
		d := s.dueOf(r, f)
		switch {
		case err != nil || d == nil:
			r.done <- err
		case !d.direct && !s.redis.Open():
			keep = append(keep, d)
		case !s.writes.Offer(d):
			s.metrics.refused.Inc()
			r.done <- ErrBusy
		}
	}
	if len(keep) > 0 {
		s.keepInRedis(keep)
	}
}

// factsOf returns the facts that a lookup found for a read. If the lookup failed because Postgres is unavailable, the pod's memory may
// suffice. It returns ErrNotFound for a read that the user may not make.
func (s *Service) factsOf(r *request, f facts, lookErr error) (facts, error) {
	if lookErr == nil {
		s.known.noteFacts(r, &f)
	} else {
		recalled := false
		if postgres.IsUnavailable(lookErr) {
			f, recalled = s.known.recall(r)
		}
		if !recalled {
			return facts{}, lookErr
		}
	}
	if f.conversationID == "" || r.in != "" && r.in != f.conversationID {
		return facts{}, ErrNotFound
	}
	return f, nil
}

// dueOf returns what has to be stored of a read, nil if the read changes nothing.
func (*Service) dueOf(r *request, f facts) *due {
	d := &due{request: r, facts: f}
	d.receipt = f.senderID != r.userID && f.shows && !f.deleted && !f.written && !f.blocked
	d.marker = !f.looked || f.seq > f.lastReadSeq
	if !d.receipt && !d.marker {
		return nil
	}
	return d
}

func complete(batch []*due, err error) {
	for _, r := range batch {
		r.done <- err
	}
}

// keepInRedis stores reads of groups in Redis, or in Postgres if Redis fails. A read whose pipeline timed out may be in both; the
// flush keeps one row with the earlier time.
func (s *Service) keepInRedis(batch []*due) {
	ctx, cancel := context.WithTimeout(context.Background(), keepWait)
	defer cancel()
	kept, err := s.buffer.add(ctx, batch)
	if err != nil {
		s.redis.Fail(err)
		for part := range slices.Chunk(batch, maxWrites) {
			s.writeReads(part)
		}
		return
	}
	for _, r := range kept {
		if r.fresh {
			s.senders.noteRead(r.messageID)
		}
		s.metrics.count(r, pathBuffered)
	}
	s.notifyReaders(kept)
	complete(batch, nil)
}

// writeReads writes reads to Postgres in one statement. If Postgres refuses it, each read is written separately, so that only
// the faulty one fails.
func (s *Service) writeReads(batch []*due) {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	written, err := s.store.write(ctx, s.store.db, batch)
	if postgres.IsRefused(err) && len(batch) > 1 {
		for i := range batch {
			s.writeReads(batch[i : i+1])
		}
		return
	}
	if err == nil {
		s.noteWritten(written)
	}
	complete(batch, err)
}

// noteWritten notifies senders and readers of reads that were written. In a direct conversation the sender is notified at once.
func (s *Service) noteWritten(batch []stored) {
	notified := map[[2]string]bool{}
	for _, r := range batch {
		key := [2]string{r.messageID, r.userID}
		switch {
		case r.fresh && r.direct && !notified[key]:
			notified[key] = true
			if r.senderShows {
				s.senders.notify(tally{r.messageID, r.conversationID, r.senderID, r.userID, 1, r.readAt})
			}
		case r.fresh && !r.direct:
			s.senders.noteRead(r.messageID)
		}
		if r.direct {
			s.metrics.count(r, pathDirect)
		} else {
			s.metrics.count(r, pathFallback)
		}
	}
	s.notifyReaders(batch)
}

// notifyReaders sends the readers' other sockets their new markers, the highest for each conversation. Other members get them
// later, from the marker feed.
func (s *Service) notifyReaders(batch []stored) {
	s.markers.noteMoved(batch)
	furthest := map[[2]string]*due{}
	for _, r := range batch {
		key := [2]string{r.userID, r.conversationID}
		if f := furthest[key]; r.moved && r.looked && (f == nil || f.seq < r.seq) {
			furthest[key] = r.due
		}
	}
	for _, r := range furthest {
		s.notifier.Notify(event.ReadNotice(r.userID, r.socketID, event.ConversationRead{
			ConversationID: r.conversationID,
			Marker:         chat.Marker{LastReadSeq: r.seq, UnreadCount: max(0, r.lastSeq-r.seq)},
		}))
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
