package receipt

import (
	"context"
	"errors"
	"slices"

	"github.com/parley-chat/parley/internal/audit"
	"github.com/parley-chat/parley/internal/chat"
	"github.com/parley-chat/parley/internal/postgres"
)

// readAudited processes a read by a key that acts for the user. A read that is written to Postgres is committed together with its entry of the
// audit log, and therefore not in a batch. For a read that goes to Redis, the entry is committed before Redis accepts the read.
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
	for part := range slices.Chunk(reads, maxLookUps) {
		changes, err := s.changeAny(ctx, part, markers)
		if err != nil {
			return err
		}
		if changes {
			return postgres.WriteCompanion(ctx, s.store.db)
		}
	}
	return nil
}

// changeAny reports whether any of a user's reads would change something. Those of messages that are not found don't.
func (s *Service) changeAny(ctx context.Context, reads []*request, markers map[string]chat.PendingMarker) (bool, error) {
	found, lookErr := s.store.lookUpReads(ctx, reads)
	var unsure []*due // those whose receipts Redis may have
	for i, r := range reads {
		f, err := s.factsOf(r, found[i], lookErr)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return false, err
		}
		d := s.dueOf(r, f)
		switch {
		case d == nil:
		case !isMarkerPending(d, markers):
			return true, nil
		case d.receipt:
			unsure = append(unsure, d)
		}
	}
	return !s.arePendingReaders(ctx, unsure), nil
}

// isPending reports whether Redis has accepted the read before. markers are the reader's pending ones.
func (s *Service) isPending(ctx context.Context, d *due, markers map[string]chat.PendingMarker) bool {
	return isMarkerPending(d, markers) && (!d.receipt || s.arePendingReaders(ctx, []*due{d}))
}

// isMarkerPending reports whether the read moves no marker, or only as far as a pending one.
func isMarkerPending(d *due, markers map[string]chat.PendingMarker) bool {
	m, ok := markers[d.conversationID]
	return !d.marker || ok && m.Seq >= d.seq && m.Version == int(d.version)
}

// arePendingReaders reports whether Redis holds the readers of all these reads, false if it is unavailable. It takes one round trip, on a
// cluster one for each node.
func (s *Service) arePendingReaders(ctx context.Context, reads []*due) bool {
	if len(reads) == 0 {
		return true
	}
	if s.redis.Open() {
		return false
	}
	wait, cancel := context.WithTimeout(ctx, keepWait)
	defer cancel()
	all, err := s.buffer.haveReaders(wait, reads)
	if err != nil && ctx.Err() == nil {
		s.redis.Fail(err)
	}
	return all
}
