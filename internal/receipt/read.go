package receipt

import (
	"context"
	"slices"
	"time"

	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/event"
	"github.com/parley-chat/parley/internal/postgres"
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
