package receipt

import (
	"context"
	"errors"
	"slices"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
)

// readAudited is a read by a key that acts for the user. A read that goes to Postgres is committed with its entry of the audit log, and so
// not in a batch. Redis commits no entries: the entry is written before Redis accepts the read.
func (s *Service) readAudited(ctx context.Context, r *request) error {
	found, lookErr := s.store.lookUpReads(ctx, []*request{r})
	f, err := s.factsOf(r, found[0], lookErr)
	if err != nil {
		return err
	}
	d := s.dueOf(r, f)
	if d == nil {
		return nil
	}
	if !d.direct && !s.redis.Open() {
		if s.isPending(ctx, d, s.Markers(ctx, r.userID)) {
			return nil
		}
		if err := postgres.WriteCompanion(ctx, s.store.db); err != nil {
			return err
		}
		return s.enqueue(ctx, r)
	}
	var written []stored
	err = postgres.InTx(ctx, s.store.db, func(ctx context.Context, q postgres.Querier) error {
		written, err = s.store.write(ctx, q, []*due{d})
		if err != nil || written[0].fresh || written[0].moved {
			return err
		}
		return postgres.ErrUnchanged
	})
	if err == nil {
		s.noteWritten(written)
	}
	return err
}

// auditMany writes the entry of a ReadMany by a key that acts for the user, unless none of the reads changes anything. The reads are
// accepted one by one, in Postgres and in Redis, so the entry is written before them.
func (s *Service) auditMany(ctx context.Context, userID string, upTo map[string]string) error {
	if audit.OfRequest(ctx) == nil {
		return nil
	}
	reads := make([]*request, 0, len(upTo))
	for conversationID, messageID := range upTo {
		reads = append(reads, &request{userID: userID, messageID: messageID, in: conversationID})
	}
	markers := s.Markers(ctx, userID)
	for part := range slices.Chunk(reads, takeBatch) {
		found, lookErr := s.store.lookUpReads(ctx, part)
		for i, r := range part {
			f, err := s.factsOf(r, found[i], lookErr)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if d := s.dueOf(r, f); d != nil && !s.isPending(ctx, d, markers) {
				return postgres.WriteCompanion(ctx, s.store.db)
			}
		}
	}
	return nil
}

// isPending reports whether Redis has accepted the read before. markers are the reader's pending ones.
func (s *Service) isPending(ctx context.Context, d *due, markers map[string]chat.PendingMarker) bool {
	if m, ok := markers[d.conversationID]; d.marker && (!ok || m.Seq < d.seq || m.Version != int(d.version)) {
		return false
	}
	return !d.receipt || s.isPendingReader(ctx, d.messageID, d.userID)
}

// isPendingReader reports whether Redis holds a reader of a message, false if it is unavailable.
func (s *Service) isPendingReader(ctx context.Context, messageID, userID string) bool {
	if s.redis.Open() {
		return false
	}
	wait, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	found, err := s.buffer.hasReader(wait, messageID, userID)
	if err != nil && ctx.Err() == nil {
		s.redis.Fail(err)
	}
	return found
}
