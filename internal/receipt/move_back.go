package receipt

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/parley-chat/parley/internal/backoff"
	"github.com/parley-chat/parley/internal/id"
	"github.com/parley-chat/parley/internal/postgres"
	"github.com/parley-chat/parley/internal/redisconn"
	"github.com/parley-chat/parley/internal/rediskey"
)

//go:embed move_back.lua
var moveBackSource string

var moveBackScript = redis.NewScript(moveBackSource)

const (
	// moveBackPiece is how many readers are processed in one round, moveBackRetry the pause after a failed attempt.
	moveBackPiece = 500
	moveBackRetry = time.Second
)

// NewHistory notifies the service that the database has another history since a time, because of a failover or a restored backup. The pod's
// memory of messages is cleared, and Run moves pending markers back that are beyond the last message before that time. Otherwise new
// messages with the seqs of lost ones would count as read. It does not block. Of several calls in short succession the last one counts.
func (s *Service) NewHistory(epoch string, since time.Time) {
	s.known.forget()
	for {
		select {
		case s.divergences <- divergence{epoch, since}:
			return
		case <-s.divergences: // replaces one that is still waiting
		}
	}
}

// divergence is the point where two histories diverge: the epoch of the new one, and its beginning.
type divergence struct {
	epoch string
	since time.Time
}

// followHistories moves markers back whenever another history begins, until ctx ends.
func (s *Service) followHistories(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-s.divergences:
			for s.moveBack(ctx, p) != nil && ctx.Err() == nil {
				backoff.Wait(ctx, moveBackRetry)
			}
		}
	}
}

// moveBack moves all pending markers back that are beyond the point where the histories diverge, unless another pod has done so. Reads
// of the new history that were made meanwhile may move back too: those messages become unread again.
func (s *Service) moveBack(ctx context.Context, p divergence) error {
	done, err := s.buffer.rdb.Get(ctx, rediskey.ReadMarkersEpoch).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read the epoch of markers: %w", err)
	}
	if done == p.epoch {
		return nil
	}
	for from, more := start, true; more; {
		entries, next, err := readPiece(ctx, s.buffer.rdb, rediskey.DirtyReaders, from, forever, moveBackPiece)
		if err != nil {
			return err
		}
		if err := s.moveBackOf(ctx, entries, p.since); err != nil {
			return err
		}
		if more = next != nil; more {
			from = *next
		}
	}
	if err := s.buffer.rdb.Set(ctx, rediskey.ReadMarkersEpoch, p.epoch, 0).Err(); err != nil {
		return fmt.Errorf("store the epoch of markers: %w", err)
	}
	return nil
}

// moveBackOf moves the markers of some readers back.
func (s *Service) moveBackOf(ctx context.Context, readers []entry, since time.Time) error {
	held := make([]*redis.MapStringStringCmd, len(readers))
	_, err := s.buffer.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, r := range readers {
			held[i] = p.HGetAll(ctx, s.buffer.keys.ReadMarkers(r.member))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read pending markers: %w", err)
	}
	conversations := map[string]bool{}
	for _, h := range held {
		for c := range h.Val() {
			if id.Valid(c) {
				conversations[c] = true
			}
		}
	}
	last, err := s.store.lastBefore(ctx, conversations, since)
	if err != nil {
		return err
	}
	var calls []redisconn.Call
	for i, r := range readers {
		var args []any
		for c, seq := range held[i].Val() {
			if n, err := strconv.ParseInt(seq, 10, 64); err == nil && id.Valid(c) && n > last[c] {
				args = append(args, c, seq, last[c])
			}
		}
		if len(args) > 0 {
			calls = append(calls, redisconn.Call{Script: moveBackScript, Keys: []string{s.buffer.keys.ReadMarkers(r.member)}, Args: args})
		}
	}
	if len(calls) == 0 {
		return nil
	}
	_, err = runAll(ctx, s.buffer.rdb, calls)
	return err
}

// lastBefore reads the last seq of conversations before a time, 0 for none.
func (s *store) lastBefore(ctx context.Context, conversations map[string]bool, before time.Time) (map[string]int64, error) {
	ids := make([]string, 0, len(conversations))
	for c := range conversations {
		ids = append(ids, c)
	}
	ctx, cancel := context.WithTimeout(ctx, postgres.StatementTimeout)
	defer cancel()
	type last struct {
		id  string
		seq int64
	}
	found, err := postgres.Collect(ctx, s.db, func(r postgres.Row, l *last) error { return r.Scan(&l.id, &l.seq) },
		`SELECT c.id, coalesce((SELECT m.seq FROM messages m WHERE m.conversation_id = c.id AND m.created_at < $2
			ORDER BY m.created_at DESC, m.id DESC LIMIT 1), 0)
		FROM unnest($1::text[]::uuid[]) AS c (id)`, ids, before)
	if err != nil {
		return nil, fmt.Errorf("read the last messages of conversations: %w", err)
	}
	out := make(map[string]int64, len(found))
	for _, l := range found {
		out[l.id] = l.seq
	}
	return out, nil
}
