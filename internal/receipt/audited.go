package receipt

import (
	"context"
	"slices"

	"github.com/parley-chat/parley/internal/audit"
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
		if s.isPending(ctx, d) {
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
	for part := range slices.Chunk(reads, takeBatch) {
		found, lookErr := s.store.lookUpReads(ctx, part)
		for i, r := range part {
			f, err := s.factsOf(r, found[i], lookErr)
			if err != nil {
				continue
			}
			if d := s.dueOf(r, f); d != nil && !s.isPending(ctx, d) {
				return postgres.WriteCompanion(ctx, s.store.db)
			}
		}
	}
	return nil
}

// isPending reports whether Redis has accepted the read before.
func (s *Service) isPending(ctx context.Context, d *due) bool {
	m, ok := s.Markers(ctx, d.userID)[d.conversationID]
	if !ok || m.Seq < d.seq || m.Version != int(d.version) {
		return false
	}
	return !d.receipt || slices.ContainsFunc(s.pending(ctx, d.messageID), func(p pendingReceipt) bool { return p.userID == d.userID })
}
