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

// Notifier publishes to all pods: notices for one user, and events of a conversation. It never waits for Redis.
type Notifier interface {
	Notify(n *event.Notice)
	Publish(events ...*event.Event)
}

// Members is what the pod knows of who is where, without asking.
type Members interface {
	// Serves tells whether a socket of the user's on this pod gets the conversation's events, which only members do.
	Serves(userID, conversationID string) bool
}

const (
	// readQueue bounds the reads that wait on a pod: more are refused with ErrBusy.
	readQueue = 1 << 13
	// takeBatch is how many reads are looked up in one statement and kept in one pipeline, writeBatch how many are written in
	// one statement.
	takeBatch  = 1024
	writeBatch = 256
	// keepWait bounds what is asked of Redis.
	keepWait = 2 * time.Second
	// probeEvery is how often Redis is probed while it is unavailable.
	probeEvery = 250 * time.Millisecond
)

// facts is what is known of a read before it is made.
type facts struct {
	conversationID, senderID string
	seq                      int64
	// What follows is known where Postgres was asked.
	looked                   bool
	direct, deleted, written bool
	shows, senderShows       bool
	blocked                  bool // in a direct conversation, by one of the two
	lastSeq, lastReadSeq     int64
	version                  int32 // of the reader's marker
	highSeq                  int64 // the furthest that the marker was at when it was moved back, 0 if it never was
	members                  int   // of the conversation
}

// anyVersion is for a read whose marker could not be looked up.
const anyVersion = -1

// markerVersion is the version of the marker that the read moves: one that was moved back since stays where it is.
func (f *facts) markerVersion() int32 {
	if !f.looked {
		return anyVersion
	}
	return f.version
}

// read is one that waits.
type read struct {
	userID, messageID string
	in                string // the conversation that the message must be of, "" for any
	socketID          string // which caused it, "" for REST
	done              chan struct{}

	facts
	receipt, marker bool      // what is to be written
	fresh, moved    bool      // what was new
	readAt          time.Time // of a fresh one in Postgres
	err             error     // set before done is closed
}

// Service takes reads on a pod and shows receipts.
type Service struct {
	store    *store
	buffer   *buffer
	known    *known
	teller   *teller
	markers  *markerFeed
	notifier Notifier
	metrics  *Metrics
	log      *slog.Logger
	parted   chan parting
	redis    *redisconn.Breaker // open: reads of groups go to Postgres

	take  *batch.Batcher[*read]
	write *batch.Batcher[*read]
}

// NewService makes the service; its Run makes it work. memory and members serve reads while Postgres is unavailable; members is nil
// for a process without sockets. Frames report read markers in conversations of up to maxMembers members.
func NewService(db *sql.DB, rdb redis.UniversalClient, n Notifier, memory *Memory, members Members, maxMembers int, m *Metrics, log *slog.Logger) *Service {
	s := &Service{store: &store{db}, buffer: newBuffer(rdb), known: &known{memory, members}, notifier: n, metrics: m, log: log, parted: make(chan parting, 1)}
	s.redis = redisconn.NewBreaker(redisconn.BreakerConfig{
		// A write, which a Redis that is full, or a replica, does not take.
		Probe: func(ctx context.Context) error { return rdb.Set(ctx, rediskey.ReadProbe, "", probeEvery).Err() },
		Every: probeEvery, Wait: keepWait, Log: log,
		Opened: "redis does not take reads; they go straight to postgres until it does", Closed: "redis takes reads again",
	})
	s.teller = newTeller(s.store, s.buffer, n, m, log)
	s.markers = newMarkerFeed(s.store, s.buffer, n, maxMembers, log)
	s.take = batch.New(readQueue, takeBatch, s.takeIn)
	s.write = batch.New(readQueue, writeBatch, s.writeDown)
	return s
}

// Run works until ctx ends, and then on what is queued already.
func (s *Service) Run(ctx context.Context) error {
	var g errgroup.Group
	// Each part ends after the one that it gets its work from.
	for _, part := range []struct {
		name string
		run  func(context.Context)
	}{{"take", s.take.Run}, {"write", s.write.Run}, {"tell", s.teller.run}, {"markers", s.markers.run}, {"probe", func(ctx context.Context) { _ = s.redis.Run(ctx) }}, {"part", s.part}} {
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

// Read notes that a user has read a message, and with it all before. socketID is the socket that said so, "" for none: it is
// not told what it did.
func (s *Service) Read(ctx context.Context, userID, messageID, socketID string) error {
	return s.submit(ctx, &read{userID: userID, messageID: messageID, socketID: socketID})
}

// ReadUpTo is Read of a message that must be of the conversation.
func (s *Service) ReadUpTo(ctx context.Context, userID, conversationID string, u *UpTo) error {
	return s.submit(ctx, &read{userID: userID, messageID: u.UpToMessageID, in: conversationID})
}

// readAtOnce bounds the reads of one ReadMany that are under way together.
const readAtOnce = 256

// ReadMany is ReadUpTo for many conversations, one receipt each. All of them are carried out; ErrNotFound says that one of the
// named messages was not found.
func (s *Service) ReadMany(ctx context.Context, userID string, r *ReadMany) error {
	upTo := r.Conversations
	if r.All {
		var err error
		if upTo, err = s.store.unread(ctx, userID); err != nil {
			return err
		}
	}
	var g errgroup.Group
	g.SetLimit(readAtOnce)
	for conversationID, messageID := range upTo {
		g.Go(func() error {
			err := s.ReadUpTo(ctx, userID, conversationID, &UpTo{messageID})
			if r.All && errors.Is(err, ErrNotFound) { // left or deleted since
				return nil
			}
			return err
		})
	}
	return g.Wait()
}

func (s *Service) submit(ctx context.Context, r *read) error {
	r.done = make(chan struct{})
	if !s.take.Offer(r) {
		s.metrics.refused.Inc()
		return ErrBusy
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("wait for a read: %w", ctx.Err())
	}
}

// takeIn finds out what is to be done for reads, and does it or hands it to who does. Reads of groups are kept before the
// next are looked up, so that those that wait share their statement and pipeline.
func (s *Service) takeIn(batch []*read) {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	err := s.store.look(ctx, batch)
	var keep []*read
	for _, r := range batch {
		switch next, err := s.route(r, err); {
		case err != nil || next == nowhere:
			s.finish(r, err)
		case next == toRedis:
			keep = append(keep, r)
		case !s.write.Offer(r):
			s.metrics.refused.Inc()
			s.finish(r, ErrBusy)
		}
	}
	if len(keep) > 0 {
		s.keepInRedis(keep)
	}
}

// Where a read goes.
const (
	nowhere = iota // nothing is to be done
	toRedis
	toPostgres
)

// route decides what is to be done for a read that was looked up, where err is what became of that.
func (s *Service) route(r *read, err error) (int, error) {
	switch {
	case err == nil:
		s.known.note(r)
	case postgres.IsUnavailable(err) && s.known.recall(r):
	default:
		return nowhere, err
	}
	if r.conversationID == "" || r.in != "" && r.in != r.conversationID {
		return nowhere, ErrNotFound
	}
	r.receipt = r.senderID != r.userID && r.shows && !r.deleted && !r.written && !r.blocked
	r.marker = !r.looked || r.seq > r.lastReadSeq
	switch {
	case !r.receipt && !r.marker:
		return nowhere, nil
	case r.direct || s.redis.Open():
		return toPostgres, nil
	}
	return toRedis, nil
}

func (*Service) finish(r *read, err error) {
	r.err = err
	close(r.done)
}

// keepInRedis takes the reads of groups. Where Redis does not, Postgres does.
func (s *Service) keepInRedis(batch []*read) {
	ctx, cancel := context.WithTimeout(context.Background(), keepWait)
	defer cancel()
	if err := s.buffer.add(ctx, batch); err != nil {
		s.redis.Fail(err)
		for part := range slices.Chunk(batch, writeBatch) {
			s.writeDown(part)
		}
		return
	}
	for _, r := range batch {
		if r.fresh {
			s.teller.note(r.messageID)
		}
		s.metrics.count(r, pathBuffered)
	}
	s.tellMarkers(batch)
	for _, r := range batch {
		s.finish(r, nil)
	}
}

// writeDown writes reads to Postgres. Where one can't be written, each is by itself, so that it fails alone.
func (s *Service) writeDown(batch []*read) {
	ctx, cancel := context.WithTimeout(context.Background(), postgres.StatementTimeout)
	defer cancel()
	err := s.store.write(ctx, batch)
	if postgres.IsRefused(err) && len(batch) > 1 {
		for i := range batch {
			s.writeDown(batch[i : i+1])
		}
		return
	}
	if err == nil {
		s.wrote(batch)
	}
	for _, r := range batch {
		s.finish(r, err)
	}
}

func (s *Service) wrote(batch []*read) {
	told := map[[2]string]bool{}
	for _, r := range batch {
		key := [2]string{r.messageID, r.userID}
		switch {
		case r.fresh && r.direct && !told[key]:
			told[key] = true
			if r.senderShows {
				s.teller.tell(tally{r.messageID, r.conversationID, r.senderID, r.userID, 1, r.readAt})
			}
		case r.fresh && !r.direct:
			s.teller.note(r.messageID)
		}
		if r.direct {
			s.metrics.count(r, pathDirect)
		} else {
			s.metrics.count(r, pathFallback)
		}
	}
	s.tellMarkers(batch)
}

// tellMarkers notifies the readers' other sockets of how far they have read, once for each conversation. The other members
// learn it later, from the feed.
func (s *Service) tellMarkers(batch []*read) {
	s.markers.note(batch)
	furthest := map[[2]string]*read{}
	for _, r := range batch {
		key := [2]string{r.userID, r.conversationID}
		if f := furthest[key]; r.moved && r.looked && (f == nil || f.seq < r.seq) {
			furthest[key] = r
		}
	}
	for _, r := range furthest {
		s.notifier.Notify(event.ReadNotice(r.userID, r.socketID, event.ConversationRead{
			ConversationID: r.conversationID,
			Marker:         chat.Marker{LastReadSeq: r.seq, UnreadCount: max(0, r.lastSeq-r.seq)},
		}))
	}
}

// Receipts is a page of a message's receipts, the first read first, as a member may see them. Without Redis it is of what
// is written.
func (s *Service) Receipts(ctx context.Context, viewerID, messageID string, after *cursor.Position, limit int) (Page, error) {
	v, err := s.store.view(ctx, messageID, viewerID)
	if err != nil {
		return Page{}, err
	}
	if !v.shows || v.deleted {
		return Page{Receipts: []Receipt{}}, nil
	}
	pending := s.pending(ctx, messageID) // before Postgres: what is flushed in between is found there
	return s.store.receipts(ctx, messageID, viewerID, pending, after, limit)
}

func (s *Service) pending(ctx context.Context, messageID string) []row {
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

// Markers reads how far a user has read by what Postgres does not have yet, by conversation. Read these first, and Postgres after.
// If Redis is unavailable there are none.
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
